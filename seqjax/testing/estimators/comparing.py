"""`compare_estimator`: how close a gradient is to the exact one, lag by lag."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax
import numpy as np

from seqjax.errors import check_all, is_whole
from seqjax.report.table import Table
from seqjax.testing.estimators.asking import Asked
from seqjax.testing.estimators.calling import Arrays, Estimator, all_calls, like_gradient
from seqjax.testing.estimators.chain import EXACT, Slice, path_of, states_of, vector
from seqjax.testing.estimators.scans import Scan, scan_of, scans


def compare_estimator(
    estimator: Callable,
    of: Literal["window", "history"] = "window",
    *,
    scan: Any = None,
    max_lag: int = 5,
    traceable: bool = True,
    arrays: Arrays = "jax",
    batched: bool = False,
) -> Table:
    """How close a gradient is to the exact one, for a rule that does not claim more, such as e-prop or a trace.

    The part at lag k is what travels back k steps from the step of a loss. It is found from calls on windows that end
    in this step, and begin k and k - 1 steps before it, so that the function needs to return nothing else.

    >>> import jax
    >>> import seqjax as sj
    >>> def mine(step, params, state, xs, key):  # the state is detached before each step
    ...     def loss(params):
    ...         body = lambda s, x: step(params, jax.lax.stop_gradient(s), x)
    ...         return jax.lax.scan(body, state, xs)[1].sum()
    ...     return jax.value_and_grad(loss)(params)
    >>> table = sj.testing.compare_estimator(mine, max_lag=2)
    >>> table["lag"][:5], [float(round(error, 6)) for error in table["relative error"][:4]]
    (['0', '1', '2', 'others', 'all'], [0.0, 1.0, 1.0, 1.0])

    Args:
        estimator: the function, as `check_estimator` takes it.
        of: which gradient it estimates. For the history its windows are also called one after the other.
        scan: as in `check_estimator`.
        max_lag: the largest lag that is shown apart.
        traceable: as in `check_estimator`.
        arrays: as in `check_estimator`.
        batched: as in `check_estimator`.

    Returns:
        A table with a row for each lag, for all others together, and for the whole. Its columns: the scan; the lag; the
        share of the exact gradient, the norm of this part divided by that of the whole; the cosine of the estimator's
        part and the exact one; the relative error, the norm of their difference divided by that of the exact part.
    """
    check_all(
        "compare_estimator:",
        {
            f"of = {of!r} must be window or history": of in ("window", "history"),
            f"max_lag = {max_lag!r} must be a whole number, at least 0": is_whole(max_lag) and max_lag >= 0,
            f"arrays = {arrays!r} must be jax, numpy or torch": arrays in ("jax", "numpy", "torch"),
        },
    )
    made = Estimator(estimator, of, arrays, traceable and arrays == "jax")
    with jax.enable_x64(True):
        chosen = scans() if scan is None else {"scan": scan_of(scan, batched)}
        rows = [(name, *row) for name, each in chosen.items() for row in _compared(made, each, max_lag)]
    return Table(("on", "lag", "share", "cosine", "relative error"), rows)


def _compared(estimator: Estimator, scan: Scan, max_lag: int) -> list[tuple]:
    """The rows of the table for one scan."""
    states = states_of(scan)
    _, grads = all_calls(estimator, scan, states, [scan.params] * len(states), jax.random.split(jax.random.key(0), 1))
    asked = Asked(estimator, scan, None, like_gradient(scan.params, grads[0]))
    lags = min(max_lag, scan.num_steps - 1)
    parts = [asked.parts(path_of(scan, [xs], state)) for xs, state in zip(scan.windows, states, strict=True)]
    pairs = {str(lag): _sum(each.lag(lag) for each in parts) for lag in range(lags + 1)}
    if estimator.of == "window":
        whole = _sum(each.at(Slice(0, scan.num_steps), each.rows) for each in parts)
    else:
        path = path_of(scan, scan.windows, scan.state)
        right = asked.parts(path).right(Slice(0, path.num_steps), parts[0].rows)
        whole = sum(vector(jax.tree.map(lambda a: a[0], each)) for each in grads), right
    others = [a - sum(pair[i] for pair in pairs.values()) for i, a in enumerate(whole)]
    if any(np.linalg.norm(rest) > EXACT * np.linalg.norm(all_) for rest, all_ in zip(others, whole, strict=True)):
        pairs["others"] = others[0], others[1]
    pairs["all"] = whole
    return [(lag, *_closeness(*pair, np.linalg.norm(whole[1]))) for lag, pair in pairs.items()]


def _sum(pairs: Iterable[tuple]) -> tuple[Any, Any]:
    got, right = zip(*pairs, strict=True)
    return sum(got), sum(right)


def _closeness(got: np.ndarray, right: np.ndarray, norm: float) -> tuple[float, float | None, float]:
    """The share, the cosine and the relative error; no cosine where one of the parts is zero."""
    own, length, error = (float(np.linalg.norm(a)) for a in (right, got, got - right))
    if own <= EXACT * norm:  # nothing travels back so far, as across a reset
        return 0.0, None, 0.0 if length <= EXACT * norm else np.inf
    return own / norm, float(got @ right) / (own * length) if length else None, error / own

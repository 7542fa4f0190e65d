"""`check_estimator`: proves what a gradient of another library, or a loop of one's own, claims."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import check_all, is_whole
from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.contract.gradient import Gradient
from seqjax.report.table import Table
from seqjax.testing.compare import BOUND, Failed, assert_close
from seqjax.testing.estimators.calling import Arrays, Estimator, all_calls, like_gradient
from seqjax.testing.estimators.explaining import explain
from seqjax.testing.estimators.scans import Scan, scan_of, scans
from seqjax.testing.proofs.claims import largest_deviation
from seqjax.testing.proofs.oracle import Truth, arguments_of_scan, truth_of_scan
from seqjax.testing.quick_jit import quick_jit

FEWEST = 100
"""The least number of calls over which an unbiased claim is averaged."""


def check_estimator(
    estimator: Callable,
    claim: Literal["exact", "unbiased", "biased"],
    of: Literal["window", "history"] = "window",
    *,
    scan: Any = None,
    like: Gradient | None = None,
    argnums: int | Sequence[int] = 0,
    calls: int = 8192,
    traceable: bool = True,
    arrays: Arrays = "jax",
    batched: bool = False,
) -> Table:
    """Proves what a function that returns a gradient of a scan claims, against the chain rule in a Python loop.

    The function is called, in float64, as `estimator(step, params, state, xs, key)`, and returns the loss and its
    gradient. `step` is (params, state, x) -> (new state, loss); the loss of a window is the sum of the losses of its
    steps; `state` is the state of one sequence, and `xs` has leaves [T, ...]. With of="history" it is called as
    `estimator(step, params, state, xs, key, memory)` for one window after the other, first with None as its memory, and
    returns loss, gradient and memory; the gradients of the windows have to add up to the gradient of the whole
    sequence. With `argnums` it is the gradient by other arguments, as in `value_and_grad`.

    The gradient has the structure of the parameters. Lists and tuples may stand for each other, None stands for zeros,
    and a dict may lack entries: a rule of some layers returns the gradients of these.

    If the claim does not hold, the function is called on parts of the window that fails. The error says at which steps,
    lags, rows and entries the gradient is wrong, and shows the smallest case that fails as code. It states a cause if
    one known mistake, and only one, gives the same numbers on all of these parts. docs/check.md has examples.

    The scans of seqjax start in a state that is not zero and in one that is, rest at zero for some steps, with zero
    inputs and a bias of value zero, and are reset to zero in the middle of a window by their step. In one of them a
    parameter acts on a loss only across five edges, so that weights which are drawn together are found. There are three
    windows of 6 steps, so later errors are not found: a gradient that is cut after 6 steps passes as exact, and so does
    one that is wrong from the fourth window on.

    >>> import jax
    >>> import seqjax as sj
    >>> def mine(step, params, state, xs, key):
    ...     def loss(params):
    ...         return jax.lax.scan(lambda s, x: step(params, s, x), state, xs)[1].sum()
    ...     return jax.value_and_grad(loss)(params)
    >>> table = sj.testing.check_estimator(mine, claim="exact", of="window")
    >>> table["check"][:2], table["on"][::2], set(table["passed"])
    (['loss', "exact: window's gradient"], ['resting', 'small', 'linear'], {'yes'})

    Args:
        estimator: the function.
        claim: how the mean of the gradient relates to the true one; with `biased` it is only compared with `like`.
        of: which gradient is estimated: of a window whose incoming state is a constant, or of the history.
        scan: (step, params, state, windows) for an estimator that works for one model only, whose step is written in
            plain JAX here, or is a model's problem. Windows is a list of what the steps read, leaves [T, ...] each.
            Arrays become float64. The problem of a model alone, such as `RNN(hidden=4).problem(spec)`, gets parameters,
            states and windows of random numbers. None: three scans of seqjax, see `seqjax.testing.scans`.
        like: a strategy that is not random; the first call has to agree with its gradient. Strategies of a model, such
            as `EProp()`, need its problem as `scan`.
        argnums: the arguments whose gradient is returned: 0, params; 1, state; 2, xs. With a sequence of them it is a
            tuple in their order. By state and xs it is the gradient of a window.
        calls: the number of calls over which an unbiased claim is averaged. A bias is found if it is about 7 standard
            errors of this mean: with 8,192 calls, 8 % of the standard deviation of one call.
        traceable: whether the function can be traced by JAX; otherwise it is called as it is, once for each key.
        arrays: "numpy" or "torch" for a function that takes the arrays of NumPy or PyTorch. It gets a whole number as
            its key, is called as it is, and its results are converted. See also `by_step`.
        batched: whether the scan has an axis of rows: state [B, ...] and windows [T, B, ...]. The step is that of one
            row, and loss and gradient are sums over the rows.

    Returns:
        A table with the columns check, passed, worst error, bound, on.

    Raises:
        Error: the claim does not hold; the message says on which scan, by how much, and what is wrong.
    """
    _check_arguments(claim, of, scan, like, argnums, calls, arrays, batched)
    made = Estimator(estimator, of, arrays, traceable and arrays == "jax")
    with jax.enable_x64(True):
        chosen = scans() if scan is None else {"scan": scan_of(scan, batched)}
        keys = jax.random.split(jax.random.key(0), calls if claim == "unbiased" else 1)
        rows: list[tuple] = []
        for name, each in chosen.items():
            step = f'sj.testing.scans()["{name}"].step' if scan is None else ""
            rows += _check_on(name, each, made, claim, like, argnums, keys, len(chosen), step)
    return Table(("check", "passed", "worst error", "bound", "on"), rows)


def _check_arguments(
    claim: str, of: str, scan: Any, like: Any, argnums: Any, calls: Any, arrays: str, batched: bool
) -> None:
    numbers = argnums if isinstance(argnums, Sequence) else [argnums]
    check_all(
        "check_estimator:",
        {
            f"claim = {claim!r} must be exact, unbiased or biased": claim in ("exact", "unbiased", "biased"),
            f"of = {of!r} must be window or history": of in ("window", "history"),
            "a biased claim needs like=, a strategy to be compared with": claim != "biased" or like is not None,
            f"like = {like!r} must be a strategy, such as Truncated(steps=3)": like is None
            or isinstance(like, Gradient),
            f"argnums = {argnums!r} must be 0, 1 or 2, or several of them": (
                len(numbers) > 0 and all(is_whole(n) and 0 <= n < 3 for n in numbers)
            ),
            "the history has a gradient by params only: leave argnums out for of='history'": (
                argnums == 0 or of == "window"
            ),
            "like= draws at random, so that no call can agree with it": not (isinstance(like, Gradient) and like.draws),
            f"calls = {calls!r} must be a whole number, at least {FEWEST}": is_whole(calls) and calls >= FEWEST,
            f"arrays = {arrays!r} must be jax, numpy or torch": arrays in ("jax", "numpy", "torch"),
            "batched=True is for a scan of your own: give scan=, or leave it out": not batched or scan is not None,
            "argnums is for one sequence: leave it out with batched=True": argnums == 0 or not batched,
        },
    )


def _check_on(
    name: str,
    scan: Scan,
    estimator: Estimator,
    claim: str,
    like: Gradient | None,
    argnums: Any,
    keys: jax.Array,
    num_scans: int,
    step: str,
) -> list[tuple]:
    """The rows of the table for one scan."""
    truths = _truths(scan)
    states = [scan.state, *(truth.state for truth in truths[:-1])]
    truths = [
        _of_arguments(truth, scan, state, w, argnums)
        for w, (truth, state) in enumerate(zip(truths, states, strict=True))
    ]
    losses, grads = all_calls(estimator, scan, states, [truth.grads for truth in truths], keys)
    error = _check_losses(losses[0], np.stack([truth.loss for truth in truths]), scan, name)
    rows: list[tuple] = [("loss", "yes", error, BOUND, name)]
    first = [_first(each) for each in grads]
    asked = _Claims(estimator, scan, states, name, step if argnums == 0 else None)
    if like is not None:
        wanted = _like(like, argnums, scan, estimator.of)
        what = f"the gradient of {type(like).__name__}, "
        rows.append((f"like {like!r}", "yes", asked.exactly(first, wanted, what, like), BOUND, name))
    if claim == "biased":
        return rows
    check = f"{claim}: {estimator.of}'s gradient"
    if estimator.of == "history":  # the gradients of the windows add up to the gradient of the whole
        grads = [jax.tree.map(lambda *a: sum(a), *grads)]
        truths = [_whole(scan)]
    if claim == "exact":
        wanted = [truth.grads for truth in truths]
        error = asked.exactly([_first(each) for each in grads], wanted, "gradient, ", None)
        return [*rows, (check, "yes", error, BOUND, name + _without(wanted[0], first[0]))]
    worst, tests = 0.0, len(grads) * num_scans
    for w, (each, truth) in enumerate(zip(grads, truths, strict=True)):
        wanted = like_gradient(truth.grads, each)
        worst = max(worst, largest_deviation(each, wanted, f"{name}, window {w}, gradient, ", tests))
    return [*rows, (check, "yes", worst, 1.0, f"{name}, mean of {len(keys):,} calls")]


def _check_losses(losses: np.ndarray, wanted: np.ndarray, scan: Scan, name: str) -> float:
    """The worst error of the losses of the windows.

    Raises:
        Failed: it is too large.
    """
    try:
        return assert_close(losses, wanted, f"{name}, the losses of the windows")
    except Failed as fault:
        T, B = scan.num_steps, scan.num_rows
        means = {f"the mean over the {T} steps": 1 / T, f"the mean over the {B} rows": 1 / B}
        means["the mean over steps and rows"] = 1 / (T * B)
        said = "the loss of a window is the sum of the losses of its steps" + (
            ", over all rows" if scan.batched else ""
        )
        for text, factor in means.items():
            if factor != 1 and np.allclose(losses, factor * wanted, 1e-6):
                raise Failed(f"{fault}\nWhat is wrong: it is {text}; {said}", fault.error) from None
        if np.allclose(losses, wanted, 1e-5):
            said = "it is right to about 6 digits, as if it were computed in float32; all arrays are given in float64"
        raise Failed(f"{fault}\nWhat is wrong: {said}", fault.error) from None


class _Claims:
    """Compares the gradients of an estimator with others, and says what is wrong."""

    def __init__(self, estimator: Estimator, scan: Scan, states: list[Any], name: str, step: str | None):
        self.estimator, self.scan, self.states, self.name, self.step = estimator, scan, states, name, step

    def exactly(self, grads: list[Any], wanted: list[Any], what: str, like: Gradient | None) -> float:
        """The worst error of gradients that must be equal to others, window by window.

        Raises:
            Error: an error is too large; the message explains it.
        """
        worst = 0.0
        for w, (got, want) in enumerate(zip(grads, wanted, strict=True)):
            window = f"window {w}, " if len(grads) == len(self.scan.windows) else "sum of the windows, "
            try:
                error = assert_close(got, like_gradient(want, got), f"{self.name}, {window}{what}")
            except Failed as fault:
                if self.step is None:
                    raise
                last = w if len(grads) == len(self.scan.windows) else len(self.scan.windows) - 1
                text = explain(self.estimator, self.scan, self.states, last, like, got, self.step)
                raise Failed(f"{fault}\n{text}".rstrip(), fault.error) from None
            worst = max(worst, error)
        return worst


def _without(wanted: Any, got: Any) -> str:
    """What the gradient lacks, for the table."""
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(wanted)]
    given = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(got)}
    missing = [name for name in names if name not in given]
    return f", without {', '.join(missing)}" if missing else ""


def _truths(scan: Scan) -> list[Truth]:
    """The truth of each window, which starts in the state that the window before has left; the sum over rows."""
    if scan.batched:
        return [_over_rows(truths) for truths in zip(*map(_truths, scan.rows()), strict=True)]
    truths: list[Truth] = []
    for xs in scan.windows:
        truths.append(truth_of_scan(scan.step, scan.params, truths[-1].state if truths else scan.state, [xs]))
    return truths


def _whole(scan: Scan) -> Truth:
    """The truth of all windows together; the sum over rows."""
    return _over_rows([truth_of_scan(row.step, row.params, row.state, row.windows) for row in scan.rows()])


def _over_rows(truths: Sequence[Truth]) -> Truth:
    loss, grads = jax.tree.map(lambda *a: sum(a), *[(truth.loss, truth.grads) for truth in truths])
    return Truth(loss, grads, jax.tree.map(lambda *a: jnp.stack(a), *[truth.state for truth in truths]))


def _of_arguments(truth: Truth, scan: Scan, state: Any, w: int, argnums: Any) -> Truth:
    """The truth of window w with the gradients of other arguments."""
    if argnums == 0:
        return truth
    grads = arguments_of_scan(scan.step, scan.params, state, scan.windows[w])
    return truth._replace(grads=tuple(grads[n] for n in argnums) if isinstance(argnums, Sequence) else grads[argnums])


def _like(strategy: Gradient, argnums: Any, scan: Scan, of: str) -> list[Any]:
    """The gradients of a strategy in each window; for the history with the memory of the window before."""
    found, state, memory = [], scan.state, None
    run = quick_jit(estimate(scan.problem, strategy, argnums, batched=scan.batched))
    for xs in scan.windows:
        # `estimate` divides by the number of steps unless it is given weights.
        ones = jnp.ones((scan.num_steps, scan.num_rows) if scan.batched else scan.num_steps)
        made = run(scan.params, state, xs, weights=ones, memory=memory)
        state, memory = made.state, made.memory if of == "history" else None
        found.append(made.grads)
    return found


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)

"""`check_estimator`: proves what a gradient of another library, or a loop of one's own, claims."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import Error, check_all, is_whole
from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.contract.gradient import Gradient
from seqjax.report.table import Table
from seqjax.testing.compare import BOUND, assert_close
from seqjax.testing.proofs.calls import row_of
from seqjax.testing.proofs.cases import case
from seqjax.testing.proofs.claims import largest_deviation
from seqjax.testing.proofs.oracle import Truth, arguments_of_scan, truth_of_scan
from seqjax.testing.quick_jit import quick_jit

CASES = ("resting", "small", "linear")
"""The scans: one that starts at zero, rests and is reset to zero, two tanh units, and a state that is linear in the
parameters; 6 steps in each of three windows."""
FEWEST = 100
"""The least number of calls over which an unbiased claim is averaged."""
ROW = 2
"""The sequence of these scans whose state and inputs are used."""


class Scan(NamedTuple):
    """A scan of one sequence, on which an estimator is checked.

    Args:
        step: (params, state, x) -> (new state, loss).
        params: the parameters.
        state: the state that enters the first window.
        windows: what the steps of consecutive windows read, leaves [T, ...] each, equally long.
    """

    step: Callable
    params: Any
    state: Any
    windows: Sequence[Any]


def check_estimator(
    estimator: Callable,
    claim: Literal["exact", "unbiased", "biased"],
    of: Literal["window", "history"] = "window",
    *,
    scan: Sequence[Any] | None = None,
    like: Gradient | None = None,
    argnums: int | Sequence[int] = 0,
    calls: int = 8192,
    traceable: bool = True,
) -> Table:
    """Proves what a function that returns a gradient of a scan claims, against the chain rule in a Python loop.

    The function is called, in float64, as `estimator(step, params, state, xs, key)`, and returns the loss and its
    gradient. `step` is (params, state, x) -> (new state, loss); the loss of a window is the sum of the losses of its
    steps; `state` is the state of one sequence, and `xs` has leaves [T, ...]. With of="history" it is called as
    `estimator(step, params, state, xs, key, memory)` for one window after the other, first with None as its memory, and
    returns loss, gradient and memory; the gradients of the windows have to add up to the gradient of the whole
    sequence. With `argnums` it is the gradient by other arguments, as in `value_and_grad`.

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
            plain JAX here. Windows is a list of what the steps read, leaves [T, ...] each. Arrays become float64. None:
            three scans of seqjax.
        like: a strategy that is not random; the first call has to agree with its gradient.
        argnums: the arguments whose gradient is returned: 0, params; 1, state; 2, xs. With a sequence of them it is a
            tuple in their order. By state and xs it is the gradient of a window.
        calls: the number of calls over which an unbiased claim is averaged. A bias is found if it is about 7 standard
            errors of this mean: with 8,192 calls, 8 % of the standard deviation of one call.
        traceable: whether the function can be traced by JAX; otherwise it is called as it is, once for each key.

    Returns:
        A table with the columns check, passed, worst error, bound, on.

    Raises:
        Error: the claim does not hold; the message says on which scan, and by how much.
    """
    _check_arguments(claim, of, scan, like, argnums, calls)
    with jax.enable_x64(True):
        scans = {name: _scan_of(name) for name in CASES} if scan is None else {"scan": _in_double(Scan(*scan))}
        rows: list[tuple] = []
        for name, each in scans.items():
            truths = _truths(each)
            keys = jax.random.split(jax.random.key(0), calls if claim == "unbiased" else 1)
            truths = [_of_arguments(truth, each, w, truths, argnums) for w, truth in enumerate(truths)]
            losses, grads = _all_calls(estimator, each, truths, of, traceable, keys)
            wanted = np.stack([truth.loss for truth in truths])
            error = assert_close(losses[0], wanted, f"{name}, the losses of the windows")
            rows.append(("loss", "yes", error, BOUND, name))
            if like is not None:
                rows.append((f"like {like!r}", "yes", _like(like, argnums, grads, each, name), BOUND, name))
            if claim != "biased":
                rows.append(_claimed(claim, of, each, grads, truths, name, len(scans)))
    return Table(("check", "passed", "worst error", "bound", "on"), rows)


def _check_arguments(claim: str, of: str, scan: Any, like: Any, argnums: Any, calls: Any) -> None:
    numbers = argnums if isinstance(argnums, Sequence) else [argnums]
    check_all(
        "check_estimator:",
        {
            f"claim = {claim!r} must be exact, unbiased or biased": claim in ("exact", "unbiased", "biased"),
            f"of = {of!r} must be window or history": of in ("window", "history"),
            "a biased claim of the history cannot be checked": claim != "biased" or of == "window",
            "a biased claim needs like=, a strategy to be compared with": (
                claim != "biased" or of == "history" or like is not None
            ),
            f"like = {like!r} must be a strategy, such as Truncated(steps=3)": like is None
            or isinstance(like, Gradient),
            "like= is compared window by window: leave it out for of='history'": like is None or of == "window",
            f"argnums = {argnums!r} must be 0, 1 or 2, or several of them": (
                len(numbers) > 0 and all(is_whole(n) and 0 <= n < 3 for n in numbers)
            ),
            "the history has a gradient by params only: leave argnums out for of='history'": (
                argnums == 0 or of == "window"
            ),
            "like= draws at random, so that no call can agree with it": not getattr(like, "draws", False),
            f"calls = {calls!r} must be a whole number, at least {FEWEST}": is_whole(calls) and calls >= FEWEST,
            "scan must be (step, params, state, windows), with at least one window": (
                scan is None or (len(scan) == 4 and len(scan[3]) > 0)
            ),
        },
    )


def _claimed(
    claim: str, of: str, scan: Scan, grads: list[Any], truths: list[Truth], name: str, num_scans: int
) -> tuple[Any, ...]:
    """The row of the table for an exact or an unbiased claim."""
    if of == "history":  # the gradients of the windows add up to the gradient of the whole
        grads = [jax.tree.map(lambda *a: sum(a), *grads)]
        truths = [truth_of_scan(scan.step, scan.params, scan.state, scan.windows)]
    check = f"{claim}: {of}'s gradient"
    if claim == "exact":
        return check, "yes", _exact(grads, truths, name), BOUND, name
    num_calls = len(jax.tree.leaves(grads)[0])
    return check, "yes", _unbiased(grads, truths, name, num_scans), 1.0, f"{name}, mean of {num_calls:,} calls"


def _scan_of(name: str) -> Scan:
    """A scan of seqjax. Its steps read their weights too, so that no two losses can be exchanged."""
    if name == "resting":
        return _resting()
    c = case(name)

    def step(params, state, x):
        x, weight = x
        state, loss = c.step(params, state, x)
        return state, weight * loss

    windows = [jax.tree.map(lambda a: a[:, ROW], (batch.xs, batch.weights)) for batch in c.windows]
    return Scan(step, c.params, row_of(c.state, ROW), windows)


def _resting() -> Scan:
    """A scan that starts at zero, rests there for two steps, and is reset to zero in its second window.

    While it rests its inputs are zero. The bias `d` is zero too, so that the gradient by `d` passes the steps at rest.
    `c` acts on the state at one step of a window, and this state on the loss at its last step: in the third window
    across five edges. Its norm is above 10.
    """

    def step(params, state, x):
        state = jax.tree.map(lambda a: jnp.where(x["reset"] > 0, 0, a), state)
        h = jnp.tanh(params["w"] * state["h"][::-1] + params["b"] * x["u"] + params["d"])
        m = 0.9 * state["m"] + params["c"] * x["starts"]
        return {"h": h, "m": m}, (jnp.sum(h) - x["y"]) ** 2 + x["ends"] * m

    rng = np.random.default_rng(0)
    params = {"w": jnp.array([0.8, -1.1]), "b": jnp.array([0.6, 0.9]), "c": jnp.array(12.0), "d": jnp.zeros(2)}
    state = {"h": jnp.zeros(2), "m": jnp.zeros(())}
    windows: list[Any] = []
    for starts, reset in ((2, None), (0, 3), (0, None)):
        xs = {"u": rng.normal(size=6), "y": rng.normal(size=6)} | {k: np.zeros(6) for k in ("starts", "ends", "reset")}
        xs["starts"][starts] = xs["ends"][-1] = 1
        if reset is not None:
            xs["reset"][reset] = 1
        if not windows:
            xs["u"][:2] = 0
        windows.append(jax.tree.map(jnp.asarray, xs))
    return Scan(step, params, state, windows)


def _in_double(scan: Scan) -> Scan:
    """The scan with its arrays in float64."""

    def double(a):
        a = jnp.asarray(a)
        return a.astype(float) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return scan._replace(**jax.tree.map(double, {name: getattr(scan, name) for name in Scan._fields[1:]}))


def _truths(scan: Scan) -> list[Truth]:
    """The truth of each window, which starts in the state that the window before has left."""
    truths: list[Truth] = []
    for xs in scan.windows:
        truths.append(truth_of_scan(scan.step, scan.params, truths[-1].state if truths else scan.state, [xs]))
    return truths


def _of_arguments(truth: Truth, scan: Scan, w: int, truths: Sequence[Truth], argnums: Any) -> Truth:
    """The truth of window w with the gradients of other arguments."""
    if argnums == 0:
        return truth
    state = truths[w - 1].state if w else scan.state
    grads = arguments_of_scan(scan.step, scan.params, state, scan.windows[w])
    return truth._replace(grads=tuple(grads[n] for n in argnums) if isinstance(argnums, Sequence) else grads[argnums])


def _all_calls(
    estimator: Callable, scan: Scan, truths: Sequence[Truth], of: str, traceable: bool, keys: Any
) -> tuple[np.ndarray, list[Any]]:
    """The losses [N, W] of all windows, and the gradients of each window, leaves [N, ...]."""
    states = [scan.state, *(truth.state for truth in truths[:-1])]

    def one(key):
        losses, grads, memory = [], [], None
        for w, (state, xs) in enumerate(zip(states, scan.windows, strict=True)):
            # Copies: the estimator may write into what it is given.
            params, state, xs = jax.tree.map(jnp.array, (scan.params, state, xs))
            arguments = scan.step, params, state, xs, jax.random.fold_in(key, w)
            result = estimator(*arguments) if of == "window" else estimator(*arguments, memory)
            loss, gradient, memory = _parts(result, truths[w].grads, of)
            losses.append(loss)
            grads.append(gradient)
        return losses, grads

    if traceable:
        try:
            losses, grads = quick_jit(lambda keys: jax.lax.map(one, keys, batch_size=256))(keys)
        except jax.errors.ConcretizationTypeError as fault:
            raise Error(f"check_estimator: {fault}\nA function that JAX cannot trace needs traceable=False") from fault
    else:
        losses, grads = jax.tree.map(lambda *a: np.stack(a), *[one(key) for key in keys])
    return np.stack(losses, -1), jax.device_get(grads)


def _parts(result: Any, wanted_grads: Any, of: str) -> tuple[Any, Any, Any]:
    """Loss, gradient and memory of a call."""
    wanted = "(loss, gradient)" if of == "window" else "(loss, gradient, memory)"
    if not isinstance(result, tuple) or len(result) != 2 + (of == "history"):
        returned = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise Error(f"check_estimator: the function returned {returned}, and must return {wanted}")
    loss, grads, *memory = result
    returned, wanted_shapes = (jax.tree.map(jnp.shape, tree) for tree in (grads, wanted_grads))
    if returned != wanted_shapes:
        raise Error(f"check_estimator: the gradient has the shapes {returned}, and must have {wanted_shapes}")
    return loss, grads, memory[0] if memory else None


def _exact(grads: Sequence[Any], truths: Sequence[Truth], name: str) -> float:
    pairs = enumerate(zip(grads, truths, strict=True))
    return max(assert_close(_first(g), truth.grads, f"{name}, window {w}, gradient, ") for w, (g, truth) in pairs)


def _unbiased(grads: Sequence[Any], truths: Sequence[Truth], name: str, num_scans: int) -> float:
    pairs = enumerate(zip(grads, truths, strict=True))
    tests = len(grads) * num_scans
    return max(largest_deviation(g, t.grads, f"{name}, window {w}, gradient, ", tests) for w, (g, t) in pairs)


def _like(strategy: Gradient, argnums: Any, grads: Sequence[Any], scan: Scan, name: str) -> float:
    """The largest difference from the gradients of a strategy."""
    worst, state = 0.0, scan.state
    run = quick_jit(estimate(scan.step, strategy, argnums))
    for w, xs in enumerate(scan.windows):
        # `estimate` divides by the number of steps unless it is given weights.
        found = run(scan.params, state, xs, weights=jnp.ones(len(jax.tree.leaves(xs)[0])))
        state = found.state
        what = f"{name}, window {w}, the gradient of {type(strategy).__name__}, "
        worst = max(worst, assert_close(_first(grads[w]), found.grads, what))
    return worst


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)

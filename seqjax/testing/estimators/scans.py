"""The scans on which an estimator is checked: those of seqjax, those of a model, and those of the user."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.array_files.arrays import is_key
from seqjax.errors import Error
from seqjax.gradients.contract.problem import Problem
from seqjax.models.model import ModelProblem
from seqjax.testing.proofs.calls import row_of
from seqjax.testing.proofs.cases import Case, case

CASES = ("resting", "small", "linear")
"""The scans of seqjax: one that starts at zero, rests and is reset to zero, two tanh units, and a state that is linear
in the parameters; 6 steps in each of three windows."""
ROW = 2
"""The sequence of the last two whose state and inputs are used."""
WINDOWS, STEPS, ROWS = 3, 6, 3
"""The windows, their steps, and with `batched` the rows of the scans that are made for a model."""


class Scan(NamedTuple):
    """A scan of one sequence or of several, on which an estimator is checked.

    Args:
        step: (params, state, x) -> (new state, loss), for one sequence.
        params: the parameters.
        state: the state that enters the first window, with `batched` leaves [B, ...].
        windows: what the steps of consecutive windows read, leaves [T, ...] or [T, B, ...], equally long.
        problem: what a strategy takes: the problem of a model, or the step.
        batched: whether there is an axis of rows.
    """

    step: Callable
    params: Any
    state: Any
    windows: Sequence[Any]
    problem: Any
    batched: bool = False

    @property
    def num_steps(self) -> int:
        """The steps of a window."""
        return len(jax.tree.leaves(self.windows[0])[0])

    def rows(self) -> list["Scan"]:
        """Each row as a scan of one sequence."""
        if not self.batched:
            return [self]
        return [
            self._replace(
                state=row_of(self.state, b),
                windows=[jax.tree.map(lambda a, b=b: a[:, b], xs) for xs in self.windows],
                batched=False,
            )
            for b in range(self.num_rows)
        ]

    @property
    def num_rows(self) -> int:
        """The rows; 1 without an axis of rows."""
        return len(jax.tree.leaves(self.state)[0]) if self.batched else 1


def scans() -> dict[str, Scan]:
    """The scans on which `check_estimator` checks by default, by name, in float64 where x64 is enabled.

    >>> import seqjax as sj
    >>> step, params, state, windows, *_ = sj.testing.scans()["resting"]
    >>> new, loss = step(params, state, {name: a[0] for name, a in windows[0].items()})
    >>> sorted(new), loss.shape
    (['h', 'm'], ())

    Returns:
        Name -> (step, params, state, windows, ...), see `check_estimator`.
    """
    return {name: _resting() if name == "resting" else scan_of_case(case(name)) for name in CASES}


def scan_of(given: Any, batched: bool) -> Scan:
    """The scan that the user gives, in float64: four values, the first of which may be a problem, or a model's problem.

    Raises:
        Error: it is none of them.
    """
    if isinstance(given, ModelProblem):
        given = _of_model(given, batched)
    if not isinstance(given, Sequence) or len(given) < 4:
        raise Error(
            "scan must be (step, params, state, windows), or the problem of a model, such as "
            f"RNN(hidden=4).problem(Spec(Values(2), Values(1))), not {given!r:.80}"
        )
    first, params, state, windows = given[:4]
    if not isinstance(windows, list | tuple) or not windows:
        raise Error(
            f"scan: windows must be a list with what the steps of each window read, such as [xs] for one window, not "
            f"{type(windows).__name__}"
        )
    step = first.step if isinstance(first, Problem) else first
    params, state, windows = jax.tree.map(_double, (params, state, list(windows)))
    scan = Scan(step, params, state, windows, first, batched)
    _check_shapes(scan)
    return scan


def _check_shapes(scan: Scan) -> None:
    """Checks that windows, state and step fit together; traces the step, and computes nothing.

    Raises:
        Error: they do not.
    """
    lengths = {np.shape(a)[:1] for xs in scan.windows for a in jax.tree.leaves(xs)}
    if len(lengths) != 1 or lengths == {()}:
        raise Error(f"scan: all arrays of all windows must have one number of steps as their first axis, not {lengths}")
    if not any(jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(scan.params)):
        raise Error("scan: params must have arrays of floats, such as 1.0 in place of 1")
    x = jax.tree.map(lambda a: a[0], scan.windows[0])
    state, x = jax.tree.map(lambda a: a[0], (scan.state, x)) if scan.batched else (scan.state, x)
    where = "step(params, state, x) for one sequence and one step"
    try:
        result = jax.eval_shape(scan.step, scan.params, state, x)
    except Exception as fault:
        shown = [jax.tree.map(jnp.shape, a) for a in (scan.params, state, x)]
        rows = "" if scan.batched else "; if the scan has an axis of rows, give batched=True"
        raise Error(
            f"scan: {where} raises {type(fault).__name__}: {str(fault).splitlines()[0]:.200}\n"
            f"It is called with the shapes {shown[0]}, {shown[1]} and {shown[2]}{rows}"
        ) from fault
    if (
        not isinstance(result, tuple)
        or len(result) != 2
        or jax.tree.map(np.shape, result[0]) != jax.tree.map(np.shape, state)
    ):
        shapes = jax.tree.map(np.shape, result)
        raise Error(f"scan: {where} returned {shapes}, and must return (new state, loss) with a state like the old one")
    if np.shape(result[1]) != ():
        raise Error(f"scan: {where} returned a loss of shape {np.shape(result[1])}, and must return one number")


def _double(a: Any) -> Any:
    if is_key(a):
        return a
    a = np.asarray(a)
    return jnp.asarray(a.astype(float) if jnp.issubdtype(a.dtype, jnp.floating) else a)


def scan_of_case(c: Case) -> Scan:
    """One row of a case of the conformance suite. Its steps read their weights, so that no two losses are alike."""

    def step(params, state, x):
        x, weight = x
        state, loss = c.step(params, state, x)
        return state, weight * loss

    windows = [jax.tree.map(lambda a: a[:, ROW], (batch.xs, batch.weights)) for batch in c.windows]
    return Scan(step, c.params, row_of(c.state, ROW), windows, step)


def _of_model(problem: ModelProblem, batched: bool) -> tuple:
    """Parameters, states and windows for a model: random numbers, so that no parameter and no state is zero."""
    rng = np.random.default_rng(0)

    def moved(a, scale=0.3):
        a = jnp.asarray(a)
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        return (a + scale * rng.normal(size=a.shape)).astype(float)

    def data(like):
        shape = (STEPS, *((ROWS,) if batched else ()), *like.shape)
        if jnp.issubdtype(like.dtype, jnp.inexact):
            return jnp.asarray(rng.normal(size=shape), float)
        # Two ids are in every vocabulary.
        return jnp.asarray(rng.integers(0, 2, shape), like.dtype)

    if problem.x_like is None:
        raise Error(
            "a loss of your own may read any targets: give scan=(problem, params, state, windows), "
            "where a window is (inputs, targets), [T, ...]"
        )
    params = jax.tree.map(moved, problem.init(jax.random.key(0)))
    state = jax.tree.map(moved, problem.init_rows(params, ROWS))
    windows = [jax.tree.map(data, problem.x_like) for _ in range(WINDOWS)]
    return problem, params, state if batched else row_of(state, 0), windows


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
    return Scan(step, params, state, windows, step)

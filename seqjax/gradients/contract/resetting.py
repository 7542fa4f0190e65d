"""Resets inside of a window: steps that start from an initial state in place of the state that the step before left."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.problem import Params, Problem, State, where_rows
from seqjax.gradients.contract.rows import as_row


class Resets(NamedTuple):
    """The resets of a window.

    Args:
        steps: bool[T, B], the steps that are reset.
        initial: the state at a reset, leaves [B, ...]; None: the initial state of the problem or, if it has none, the
            state in which the window starts.
    """

    steps: Any
    initial: Any = None


class ResetSteps(NamedTuple):
    """How the steps of a problem are reset; its field `resets`.

    A step reads (what it reads without resets, bool[], int32[]): whether it is reset, and the number of its row.

    Args:
        problem: the problem without resets.
        initial: params -> the states at a reset, leaves [B, ...]. They are differentiated.
    """

    problem: Problem
    initial: Callable[[Params], State]


class Apart(NamedTuple):
    """The steps of one sequence without their resets, and the resets.

    Args:
        problem: the problem without resets.
        xs: what its steps read, leaves [T, ...].
        reset: bool[T], the steps that are reset; None: there are none.
        initial: params -> the state from which such a step starts.
    """

    problem: Problem
    xs: Any
    reset: Any = None
    initial: Any = None


def resetting(problem: Problem, initial: Callable[[Params], State]) -> Problem:
    """Returns the problem whose steps may be reset, see `ResetSteps`. Its steps are scanned."""

    def with_outputs(params, state, x):
        x, reset, row = x
        entering = where_rows(reset, jax.tree.map(lambda a: a[row], initial(params)), state)
        return problem.step_with_outputs(params, entering, x)

    inputs = None if problem.inputs is None else lambda params, xs: (problem.read(params, xs[0]), *xs[1:])
    resets = ResetSteps(problem, initial)
    return problem.changed(with_outputs=with_outputs, init_state=None, inputs=inputs, resets=resets, x_like=None)


def without_resets(problem: Problem, xs: PyTree) -> Apart:
    """Takes the steps of one sequence apart from their resets.

    A strategy that carries derivatives from step to step begins anew where `reset` is true, from `initial`, and then
    calls the step of `problem`.

    Args:
        problem: the problem that a strategy was given.
        xs: what its steps read, leaves [T, ...] for one sequence.
    """
    if problem.resets is None:
        return Apart(problem, xs)
    own, initial = problem.resets
    xs, reset, rows = xs
    return Apart(own, xs, reset, lambda params: jax.tree.map(lambda a: a[rows[0]], initial(params)))


def with_resets(
    problem: Problem, start: Callable[[Params], State], xs: PyTree, resets: Resets | None
) -> tuple[Problem, PyTree]:
    """The problem with resets inside of a window, and what its steps read.

    Args:
        problem: the problem.
        start: params -> the state in which the window starts, leaves [B, ...].
        xs: what the steps of the problem read, leaves [T, B, ...].
        resets: the resets; None: the problem and xs stay as they are.
    """
    if resets is None:
        return problem, xs
    num_steps, num_rows = resets.steps.shape

    def initial(params):
        if resets.initial is not None:
            return resets.initial
        return start(params) if problem.init_state is None else problem.init_rows(params, num_rows)

    rows = jnp.broadcast_to(jnp.arange(num_rows, dtype=jnp.int32), (num_steps, num_rows))
    return resetting(problem, initial), (xs, resets.steps, rows)


def read_resets(
    reset: Bool[Array, "T ..."] | None, initial: State | None, state: State, num_steps: int, num_rows: int | None
) -> Resets | None:
    """Checks the resets of a window.

    Args:
        reset: bool[T] or bool[T, B]; None: no step is reset.
        initial: the state at a reset, like `state`, or without its axis B.
        state: the state in which the window starts, leaves [B, ...].
        num_steps: T.
        num_rows: B; None: the caller's arguments have no axis of rows, and `state` has one of length 1.

    Raises:
        Error: they do not fit to the window.
    """
    batched = num_rows is not None
    reset = check_reset(reset, initial, [(num_steps,), (num_steps, num_rows)][: 1 + batched], "state")
    if reset is None:
        return None
    if initial is not None:
        initial = jax.tree.map(jnp.asarray, initial)
        check_initial(initial, state if batched else jax.tree.map(lambda a: a[0], state), "state")
        initial = initial if batched else as_row(initial)
    return Resets(jnp.broadcast_to(reset.reshape(num_steps, -1), (num_steps, num_rows or 1)), initial)


def check_reset(reset: Any, initial: Any, shapes: Sequence[tuple], name: str) -> Any:
    """Checks which steps are reset, and returns it as an array; None: no step is reset.

    Args:
        reset: which steps are reset.
        initial: what is given for the start after a reset.
        shapes: the shapes that `reset` may have.
        name: what a reset replaces, such as "state".

    Raises:
        Error: it is no bool array of one of these shapes; there is an initial state without resets.
    """
    if reset is None:
        if initial is not None:
            raise Error(f"initial is the {name} at a reset: pass reset, bool[T], too")
        return None
    wanted = " or ".join(f"bool{list(shape)}" for shape in shapes)
    try:
        array = jnp.asarray(reset)
    except (TypeError, ValueError) as fault:
        raise Error(f"reset must be {wanted}, not {reset!r:.80}") from fault
    if array.shape not in shapes or array.dtype != jnp.bool:
        advice = "; if there are rows, pass batched=True" if array.ndim == 2 and len(shapes) == 1 else ""
        raise Error(f"reset must be {wanted}, not {dtype_shape(array)}{advice}")
    return array


def check_initial(initial: Any, state: Any, name: str) -> None:
    """Checks that what is given for the start after a reset has the structure and the shapes of the state.

    Raises:
        Error: it does not; `name` says what the state is called.
    """
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (initial, state)]
    if str(jax.tree.structure(initial)) != str(jax.tree.structure(state)) or shapes[0] != shapes[1]:
        raise Error(f"initial must be like {name}, with leaves of the shapes {shapes[1]}, not {shapes[0]}")
    for (path, leaf), old in zip(jax.tree.leaves_with_path(initial), jax.tree.leaves(state), strict=True):
        # Floats may be of another precision, and numbers of Python have no dtype of their own.
        with jax.numpy_dtype_promotion("standard"):
            fits = jnp.result_type(leaf, old) == jnp.result_type(old)
        if not fits and not all(jnp.issubdtype(jnp.result_type(a), jnp.floating) for a in (leaf, old)):
            where = jax.tree_util.keystr(path)
            raise Error(f"initial{where} is {dtype_shape(leaf)}, and {name}{where} is {dtype_shape(old)}")

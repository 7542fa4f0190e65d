"""`value_and_grad`: any strategy on any scan body."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from seqjax.errors import Error, dtype_shape, is_whole
from seqjax.gradients.arguments import ScanProblem
from seqjax.gradients.base import (
    Batch,
    Estimate,
    Gradient,
    Memory,
    SequenceGradient,
    Start,
    average_shared,
    check_strategy,
    init_memory,
)
from seqjax.gradients.floats import combine, partition_float
from seqjax.gradients.problem import Params, Problem, State, as_problem
from seqjax.plugin import registry

ARGUMENTS = ("params", "state", "xs")
"""The arguments of a scan by their number."""
Weights = Float[Array, "T B"] | Float[Array, " T"] | Literal["last"] | None


def value_and_grad(
    step_or_problem: Callable | Problem,
    strategy: Gradient,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    batched: bool = True,
) -> Callable[..., Estimate]:
    """Like `jax.value_and_grad`, for a scan: returns a function that differentiates T steps by a strategy.

        estimate = value_and_grad(step, Truncated(steps=50), argnums=(0, 1, 2), has_aux=True)(params, state, xs)
        estimate.grads     # of the parameters, of the initial state, of the inputs
        estimate.outputs   # what the step returned beside the loss

    The returned function takes `(params, state, xs, *, memory=None, weights=None, key=None)` and returns an `Estimate`.

    - `params`: the parameters, any pytree. Its float leaves are differentiated. Its other leaves, such as integers,
      keys and functions, are constants, and their gradient is None.
    - `state`: the state in which the window starts, leaves [B, ...]. No row is reset.
    - `xs`: what the steps read, leaves [T, B, ...].
    - `memory`: what the strategy carries from window to window; None: its initial memory.
    - `weights`: float[T, B], the weights of the losses; None: 1 / (T B); "last": 1 / B for the loss of the last step
      and 0 for all others. A loss of weight 0 may be NaN.
    - `key`: a JAX key; a strategy that draws needs it.

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        strategy: such as `Truncated(steps=50)`.
        argnums: what is differentiated: 0, the parameters; 1, the state in which the window starts; 2, what the steps
            read. With a sequence of them, `grads` is a tuple in their order.
        has_aux: whether the step returns (new state, (loss, outputs)). `outputs` then has leaves [T, B, ...].
        batched: False: a single sequence, whose arguments and results have no axis B. The memory keeps it.

    Raises:
        Error: `strategy` is not an instance of a strategy, or cannot differentiate one of the arguments. The returned
            function raises one where its arguments, or what the step returns for them, do not fit together.
    """
    problem = as_problem(step_or_problem)
    check_strategy("value_and_grad", strategy)
    numbers = _check_argnums(strategy, argnums)
    if has_aux and problem.has_own_unroll:
        raise Error("has_aux=True takes a step that returns (new state, (loss, outputs)), not a problem with an unroll")

    def estimate(
        params: Params,
        state: State,
        xs: PyTree,
        *,
        memory: Memory | None = None,
        weights: Weights = None,
        key: jax.Array | None = None,
    ) -> Estimate:
        if not batched:
            state, xs, weights = add_row_axis(state, xs, weights)
        params, state, xs, weights = check_scan(problem, params, state, xs, weights, has_aux)
        if 0 in numbers:
            check_any_float(params)
        if numbers == (0,) and not has_aux and not jax.tree.leaves(partition_float(params)[1]):
            # A strategy may know more of the problem itself, such as that it is made of a `Cell`.
            found = _estimate(strategy, problem, params, lambda _: state, xs, weights, memory, key)
            grads = (found.grads,)
        else:
            if memory is not None and strategy.of == "history" and numbers != (0,):
                raise Error(
                    f"{type(strategy).__name__} carries the influence of what it differentiates from window to window, "
                    "and the state that enters a window is no argument of the windows before it: leave memory out, or "
                    "differentiate the parameters only, argnums=0"
                )
            scan = ScanProblem(problem, params, state, xs, numbers, has_aux)
            found = _estimate_arguments(strategy, scan, weights, memory, key)
            grads = tuple(scan.by_argument(found.grads)[i] for i in numbers)
        if not batched:
            found, grads = _drop_row_axis(found, grads, numbers)
        return found._replace(grads=grads if isinstance(argnums, Sequence) else grads[0])

    return estimate


def _check_argnums(strategy: Gradient, argnums: Any) -> tuple[int, ...]:
    """The arguments that are differentiated, as a tuple."""
    numbers = tuple(argnums) if isinstance(argnums, Sequence) else (argnums,)
    if not numbers or not all(is_whole(i) and 0 <= i < 3 for i in numbers) or len(set(numbers)) < len(numbers):
        raise Error(
            f"argnums = {argnums!r}: choose from 0 (params), 1 (state) and 2 (xs), such as argnums=0 or argnums=(0, 1)"
        )
    for i in numbers:
        if i not in strategy.argnums:
            raise Error(
                f"{type(strategy).__name__} cannot differentiate {ARGUMENTS[i]}, argnums={i}; these strategies can: "
                + ", ".join(_names_of_strategies(i))
            )
    return numbers


def _names_of_strategies(argnum: int) -> list[str]:
    """The names of the registered strategies that differentiate an argument."""
    found = []
    for name in registry.names("gradient"):
        try:
            cls: Any = registry.get("gradient", name)
        except Error:
            # A broken or ambiguous plugin has its own error where it is used. Here it is only left out of a list.
            continue
        # Those of a strategy that is made of another one depend on its fields.
        if isinstance(cls.argnums, tuple) and argnum in cls.argnums:
            found.append(name)
    return found


def _estimate(
    strategy: Gradient,
    problem: Problem,
    params: Params,
    start: Start,
    xs: PyTree,
    weights: Float[Array, "T B"],
    memory: Memory | None,
    key: jax.Array | None,
    first_row: Int[Array, ""] | int = 0,
) -> Estimate:
    """One window of rows that are numbered from `first_row` on, none of which is reset."""
    num_rows = weights.shape[1]
    if memory is None:
        memory = init_memory(strategy, problem, params, start(params), num_rows)
    rows = first_row + jnp.arange(num_rows, dtype=jnp.int32)
    batch = Batch(xs, weights, jnp.zeros(num_rows, bool), rows)
    return strategy.draw_and_estimate(problem, params, start, memory, batch, key)


def _estimate_arguments(
    strategy: Gradient, scan: ScanProblem, weights: Float[Array, "T B"], memory: Memory | None, key: jax.Array | None
) -> Estimate:
    """One window, whose gradient is `Arguments`."""
    if 1 in scan.argnums and isinstance(strategy, SequenceGradient):
        found = _row_by_row(strategy, scan, weights, memory, key)
    else:
        found = _estimate(strategy, scan, scan.args, scan.start_of, scan.xs, weights, memory, key)
    if scan.has_aux and found.outputs is None:
        # The strategy computes the steps in a way of its own. One more pass forwards gives the outputs.
        found = found._replace(outputs=scan.outputs())
    return found


def _row_by_row(strategy, scan, weights, memory, key):
    """The same for a strategy that is written for one sequence.

    Such a strategy stores numbers for each parameter and each row. The state of a row concerns this row alone, so it is
    a parameter of this row alone.
    """

    def one(row, state, xs, weights, memory):
        state, xs, weights = add_row_axis(state, xs, weights)
        own = ScanProblem(scan.problem, scan.params, state, xs, scan.argnums, scan.has_aux)
        if memory is not None:
            memory = memory._replace(rows=jax.tree.map(lambda a: a[None], memory.rows))
        found = _estimate(strategy, own, own.args, own.start_of, xs, weights, memory, key, row)
        return found._replace(
            grads=found.grads._replace(state=jax.tree.map(lambda a: a[0], found.grads.state)),
            state=jax.tree.map(lambda a: a[0], found.state),
            memory=found.memory._replace(rows=jax.tree.map(lambda a: a[0], found.memory.rows)),
        )

    num_rows = weights.shape[1]
    in_axes = (0, 0, 1, 1, None if memory is None else Memory(None, 0))
    found = jax.vmap(one, in_axes)(jnp.arange(num_rows, dtype=jnp.int32), scan.state, scan.xs, weights, memory)
    loss, params = jax.tree.map(lambda a: a.sum(0), (found.loss, found.grads.params))
    return found._replace(loss=loss, grads=found.grads._replace(params=params), memory=average_shared(found.memory))


def add_row_axis(state: State, xs: PyTree, weights: Weights) -> tuple[State, PyTree, Weights]:
    """The arguments of a scan of one sequence as those of a scan with one row."""
    state, xs = _arrays(state, "state"), _arrays(xs, "xs")
    for path, leaf in jax.tree.leaves_with_path(xs):
        if not leaf.ndim:
            name = jax.tree_util.keystr(path)
            raise Error(
                f"xs{name} is a single number: what the steps read has an axis T; close over a constant instead"
            )
    if weights is not None and not isinstance(weights, str):
        if jnp.ndim(weights) != 1:
            raise Error(f"weights must be float[T] for a single sequence, not of shape {list(jnp.shape(weights))}")
        weights = jnp.asarray(weights)[:, None]
    return jax.tree.map(lambda a: a[None], state), jax.tree.map(lambda a: a[:, None], xs), weights


def _drop_row_axis(estimate: Estimate, grads: tuple, numbers: Sequence[int]) -> tuple[Estimate, tuple]:
    """The results of a scan with one row as those of a scan of one sequence."""
    state = jax.tree.map(lambda a: a[0], estimate.state)
    outputs = jax.tree.map(lambda a: a[:, 0], estimate.outputs)
    without = {0: lambda a: a, 1: lambda a: a[0], 2: lambda a: a[:, 0]}
    grads = tuple(jax.tree.map(without[i], tree) for i, tree in zip(numbers, grads, strict=True))
    return estimate._replace(state=state, outputs=outputs), grads


class Scan(NamedTuple):
    """The arguments of a scan, checked, with float parameters only.

    Args:
        problem: the problem of the scan. Leaves of the parameters that are no floats are constants of it.
        params: the float leaves of the parameters.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        weights: float[T, B].
    """

    problem: Problem
    params: Any
    state: Any
    xs: Any
    weights: Any


def read_scan(
    step_or_problem: Callable | Problem,
    params: Params,
    state: State,
    xs: PyTree,
    weights: Weights = None,
    *,
    has_aux: bool = False,
    batched: bool = True,
) -> Scan:
    """Checks the arguments of a scan, as `value_and_grad` takes them, for a function that differentiates params.

    Raises:
        Error: the arguments, or what the step returns for them, do not fit together.
    """
    problem = as_problem(step_or_problem)
    if not batched:
        state, xs, weights = add_row_axis(state, xs, weights)
    params, state, xs, weights = check_scan(problem, params, state, xs, weights, has_aux)
    if not jax.tree.leaves(params):
        raise Error("there are no parameters, so that there is nothing to differentiate")
    check_any_float(params)
    floats, others = partition_float(params)
    if not has_aux and not jax.tree.leaves(others):
        return Scan(problem, params, state, xs, weights)

    def step(floats, state, x):
        new, loss = problem.step(combine(floats, others), state, x)
        return new, loss[0] if has_aux else loss

    return Scan(Problem(step), floats, state, xs, weights)


def check_scan(
    problem: Problem, params: Params, state: State, xs: PyTree, weights: Weights, has_aux: bool = False
) -> tuple[Params, State, PyTree, Float[Array, "T B"]]:
    """Checks that a scan can be differentiated. One step is traced, and nothing is computed.

    Args:
        problem: its step is traced.
        params: the parameters.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        weights: float[T, B]; None: 1 / (T B); "last": 1 / B at the last step, else 0.
        has_aux: whether the step returns (new state, (loss, outputs)).

    Returns:
        params, state, xs and weights. Their leaves are arrays, but for those of the parameters that cannot be.

    Raises:
        Error: a leaf of state or xs is not an array; no parameter is a float; T or B differ between leaves; the step
            does not return (new state, loss), with the state as it went in and the loss one number.
    """
    params, state, xs = combine(*partition_float(params)), _arrays(state, "state"), _arrays(xs, "xs")
    shapes = [leaf.shape for leaf in jax.tree.leaves(xs)]
    if not shapes:
        raise Error(
            "xs has no arrays, so that the number of steps is not known; pass jnp.arange(T) if the step reads nothing"
        )
    if min(map(len, shapes)) < 2:
        raise Error(f"xs must have leaves [T, B, ...], found {shapes}; a single sequence takes batched=False")
    num_steps, num_rows = shapes[0][:2]
    if {shape[:2] for shape in shapes} != {(num_steps, num_rows)} or 0 in (num_steps, num_rows):
        raise Error(f"the leaves of xs must share T and B, at least 1 each; found {shapes}")
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:1] != (num_rows,):
            name = jax.tree_util.keystr(path)
            raise Error(f"state{name} has shape {leaf.shape}, and xs has {num_rows} rows: state has leaves [B, ...]")
    weights_TB = _weights(weights, num_steps, num_rows)
    after = check_step(problem, params, state, xs, has_aux)
    # A state of Python numbers takes the dtype that the step returns, as in `jax.lax.scan`.
    state = jax.tree.map(lambda a, new: a if a.dtype == new.dtype else a.astype(new.dtype), state, after)
    return params, state, xs, weights_TB


def _weights(weights: Any, num_steps: int, num_rows: int) -> Any:
    """The weights of the losses as an array."""
    if weights is None:
        # A numpy array shows while a function is traced that all losses count, see `scored_steps`.
        return np.full((num_steps, num_rows), 1 / (num_steps * num_rows), jnp.zeros(()).dtype)
    if isinstance(weights, str):
        if weights != "last":
            raise Error(f'weights = {weights!r} must be "last", None, or float[T, B]')
        return jnp.zeros((num_steps, num_rows)).at[-1].set(1 / num_rows)
    if jnp.shape(weights) != (num_steps, num_rows):
        raise Error(f"weights must be float[T, B] = [{num_steps}, {num_rows}], not {list(jnp.shape(weights))}")
    return jnp.asarray(weights)


def _arrays(tree: PyTree, name: str) -> PyTree:
    """The tree with its leaves as arrays; an error names a leaf that is something else."""

    def leaf(path, value):
        try:
            return jnp.asarray(value)
        except TypeError:
            raise Error(
                f"{name}{jax.tree_util.keystr(path)} is a {type(value).__name__}, not an array. Pass arrays alone and "
                "close over the rest in the step"
            ) from None

    return jax.tree.map_with_path(leaf, tree)


def check_params(params: Params) -> None:
    """Checks that all parameters, arrays or their shapes and dtypes, are floats.

    Raises:
        Error: one is not; the message names it.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact):
            name = jax.tree_util.keystr(path)
            raise Error(f"params{name} is {dtype}, which has no gradient: make it a float, or close over it")


def check_any_float(params: Params) -> None:
    """Checks that there is a parameter that can be differentiated.

    Raises:
        Error: there are parameters, and none is a float.
    """
    leaves = jax.tree.leaves(params)
    if leaves and not jax.tree.leaves(partition_float(params)[0]):
        found = ", ".join(str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in leaves)
        raise Error(f"no parameter is a float, so that there is nothing to differentiate; found {found:.200}")


def check_step(problem: Problem, params: Params, state: State, xs: PyTree, has_aux: bool = False) -> State:
    """Checks one step by tracing it, where `jax.lax.scan` would raise an error in its own words.

    Args:
        problem: its step is traced.
        params: the parameters. Like `state` and `xs`, they are arrays, or only their shapes and dtypes.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        has_aux: whether the step returns (new state, (loss, outputs)).

    Returns:
        The shapes and dtypes of the state of one row after the step.

    Raises:
        Error: the step does not return (new state, loss), with the state as it went in and the loss one number.
    """
    # Objects that are no arrays, such as functions, cannot be traced.
    arrays = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else None, params)
    others = jax.tree.map(lambda leaf: None if hasattr(leaf, "dtype") else leaf, params)

    # A new function for each call: JAX remembers the shapes that it has found by the function, and a step may close
    # over a value that has changed since.
    def first_row(params, state, xs):
        s, x = jax.tree.map(lambda a: a[0], state), jax.tree.map(lambda a: a[0, 0], xs)
        return s, problem.step(combine(params, others), s, x)

    before, found = jax.eval_shape(first_row, arrays, state, xs)
    returns = "(new state, (loss, outputs))" if has_aux else "(new state, loss)"
    if not isinstance(found, tuple) or len(found) != 2:
        raise Error(f"a step must return {returns}, but this one returns {_show(found)}")
    after, loss = found
    if has_aux:
        if not isinstance(loss, tuple) or len(loss) != 2:
            raise Error(f"with has_aux=True a step must return {returns}, but this one returns {_show(found)}")
        loss, _ = loss
    hint = "; does it return (loss, state)? Return (state, loss)" if _same_shapes(before, loss) else ""
    if not _same_structure(before, after):
        raise Error(f"the step takes the state {_show(before)} and returns the state {_show(after)}{hint}")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        # JAX gives a state of weak type, such as one made of Python numbers, the dtype of the new state.
        if old.shape != new.shape or (old.dtype != new.dtype and not old.weak_type):
            name = f"state{jax.tree_util.keystr(path)}"
            raise Error(
                f"{name} goes into the step as {_show(old)} and comes out as {_show(new)}"
                + (hint or f": keep its shape and dtype, such as with .astype({name}.dtype)")
            )
    if not isinstance(loss, jax.ShapeDtypeStruct) or loss.shape or not jnp.issubdtype(loss.dtype, jnp.inexact):
        aux = "; does it return (loss, outputs)? Pass has_aux=True" if isinstance(loss, tuple) else ""
        raise Error(f"a step's loss must be one number, float[], but this one is {_show(loss)}{aux}")
    return after


def _same_structure(one: Any, other: Any) -> bool:
    return bool(jax.tree.structure(one) == jax.tree.structure(other))  # type: ignore[operator]


def _same_shapes(one: Any, other: Any) -> bool:
    shapes = [[a.shape for a in jax.tree.leaves(tree)] for tree in (one, other)]
    return _same_structure(one, other) and shapes[0] == shapes[1]


def _show(tree: Any) -> str:
    """A tree with its leaves written as dtype[shape]."""
    return str(jax.tree.map(lambda a: _Text(dtype_shape(a)), tree))


class _Text(str):
    """A text without quotation marks inside of a container."""

    __repr__ = str.__str__

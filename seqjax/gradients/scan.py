"""`value_and_grad`: any strategy on any scan body."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.base import Batch, Estimate, Gradient, Memory, check_strategy, init_memory
from seqjax.gradients.problem import Params, Problem, State, as_problem


def value_and_grad(step_or_problem: Callable | Problem, strategy: Gradient) -> Callable[..., Estimate]:
    """Like `jax.value_and_grad`, for a scan: returns a function that differentiates T steps by a strategy.

    The returned function takes `(params, state, xs, *, memory=None, weights=None, key=None)` and returns an `Estimate`.

    - `params`: the parameters, any pytree of float arrays.
    - `state`: the state in which the window starts, leaves [B, ...]. No row is reset.
    - `xs`: what the steps read, leaves [T, B, ...]. A scan without rows gets an axis of size 1.
    - `memory`: what the strategy carries from window to window; None: its initial memory.
    - `weights`: float[T, B], the weights of the losses; None: 1 / (T B). A loss of weight 0 may be NaN.
    - `key`: a JAX key; a strategy that draws needs it.

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (new state, loss), or a Problem.
        strategy: such as `Truncated(steps=50)`.

    Raises:
        Error: `strategy` is not an instance of a strategy. The returned function raises one where its arguments, or
            what the step returns for them, do not fit together.
    """
    problem = as_problem(step_or_problem)

    check_strategy("value_and_grad", strategy)

    def estimate(
        params: Params,
        state: State,
        xs: PyTree,
        *,
        memory: Memory | None = None,
        weights: Float[Array, "T B"] | None = None,
        key: jax.Array | None = None,
    ) -> Estimate:
        params, state, xs, weights = check_scan(problem, params, state, xs, weights)
        num_rows = weights.shape[1]
        if memory is None:
            memory = init_memory(strategy, problem, params, state, num_rows)
        batch = Batch(xs, weights, jnp.zeros(num_rows, bool), jnp.arange(num_rows, dtype=jnp.int32))
        return strategy.draw_and_estimate(problem, params, lambda _: state, memory, batch, key)

    return estimate


def check_scan(
    problem: Problem, params: Params, state: State, xs: PyTree, weights: Float[Array, "T B"] | None
) -> tuple[Params, State, PyTree, Float[Array, "T B"]]:
    """Checks that a scan can be differentiated. One step is traced, and nothing is computed.

    Args:
        problem: its step is traced.
        params: the parameters.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        weights: float[T, B]; None: 1 / (T B).

    Returns:
        params, state, xs and weights, all of them as arrays.

    Raises:
        Error: a leaf is not an array; a parameter is not a float; T or B differ between leaves; the step does not
            return (new state, loss), with the state as it went in and the loss one number.
    """
    params, state, xs = _arrays(params, "params"), _arrays(state, "state"), _arrays(xs, "xs")
    check_params(params)
    shapes = [leaf.shape for leaf in jax.tree.leaves(xs)]
    if not shapes or min(map(len, shapes)) < 2:
        raise Error(f"xs must have leaves [T, B, ...], found {shapes}; for a single sequence add an axis of 1")
    num_steps, num_rows = shapes[0][:2]
    if {shape[:2] for shape in shapes} != {(num_steps, num_rows)} or 0 in (num_steps, num_rows):
        raise Error(f"the leaves of xs must share T and B, at least 1 each; found {shapes}")
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:1] != (num_rows,):
            name = jax.tree_util.keystr(path)
            raise Error(f"state{name} has shape {leaf.shape}, and xs has {num_rows} rows: state has leaves [B, ...]")
    if weights is None:
        weights = jnp.full((num_steps, num_rows), 1 / (num_steps * num_rows))
    if jnp.shape(weights) != (num_steps, num_rows):
        raise Error(f"weights must be float[T, B] = [{num_steps}, {num_rows}], not {list(jnp.shape(weights))}")
    check_step(problem, params, state, xs)
    return params, state, xs, jnp.asarray(weights)


def _arrays(tree: PyTree, name: str) -> PyTree:
    """The tree with its leaves as arrays; an error names a leaf that is something else."""

    def leaf(path, value):
        try:
            return jnp.asarray(value)
        except TypeError:
            raise Error(
                f"{name}{jax.tree_util.keystr(path)} is a {type(value).__name__}, not an array. Pass arrays alone and "
                "close over the rest in the step, such as with equinox.partition(module, equinox.is_array)"
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


def check_step(problem: Problem, params: Params, state: State, xs: PyTree) -> None:
    """Checks one step by tracing it, where `jax.lax.scan` would raise an error in its own words.

    Args:
        problem: its step is traced.
        params: the parameters. Like `state` and `xs`, they are arrays, or only their shapes and dtypes.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].

    Raises:
        Error: the step does not return (new state, loss), with the state as it went in and the loss one number.
    """

    # A new function for each call: JAX remembers the shapes that it has found by the function, and a step may close
    # over a value that has changed since.
    def first_row(params, state, xs):
        s, x = jax.tree.map(lambda a: a[0], state), jax.tree.map(lambda a: a[0, 0], xs)
        return s, problem.step(params, s, x)

    before, found = jax.eval_shape(first_row, params, state, xs)
    if not isinstance(found, tuple) or len(found) != 2:
        raise Error(f"a step must return (new state, loss), but this one returns {_show(found)}")
    after, loss = found
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
        raise Error(f"a step's loss must be one number, float[], but this one is {_show(loss)}")


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

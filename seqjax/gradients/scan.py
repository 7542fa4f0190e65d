"""`value_and_grad`: any strategy on anybody's scan."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.errors import Error
from seqjax.gradients.base import Batch, Estimate, Gradient, Memory, init_memory
from seqjax.gradients.problem import Params, Problem, State


def value_and_grad(step_or_problem: Callable | Problem, strategy: Gradient) -> Callable[..., Estimate]:
    """Like `jax.value_and_grad`, for a scan: its result differentiates T steps by a strategy.

    The function returned takes `(params, state, xs, *, memory=None, weights=None, key=None)`, with state leaves [B,
    ...] and xs leaves [T, B, ...] (an unbatched scan: add an axis of 1), and returns an `Estimate`. `memory` None: the
    strategy's initial one; `weights` float[T, B], None: 1 / (T B); `key` is needed by a strategy that draws. No row is
    reset: `state` is where the window starts.

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (state, loss), or a Problem.
        strategy: such as `Truncated(steps=50)`.
    """
    problem = step_or_problem if isinstance(step_or_problem, Problem) else Problem(step_or_problem)

    if not isinstance(strategy, Gradient):
        raise Error(f"value_and_grad takes an instance of a strategy, such as Full(), not {strategy!r}")

    def estimate(
        params: Params,
        state: State,
        xs: PyTree,
        *,
        memory: Memory | None = None,
        weights: Float[Array, "T B"] | None = None,
        key: jax.Array | None = None,
    ) -> Estimate:
        params, state, xs, weights = check_scan(params, state, xs, weights)
        num_rows = weights.shape[1]
        if memory is None:
            memory = init_memory(strategy, problem, params, state, num_rows)
        batch = Batch(xs, weights, jnp.zeros(num_rows, bool), jnp.arange(num_rows, dtype=jnp.int32))
        return strategy.draw_and_estimate(problem, params, lambda _: state, memory, batch, key)

    return estimate


def check_scan(params: Params, state: State, xs: PyTree, weights: Float[Array, "T B"] | None) -> tuple:
    """The same as arrays; weights None: 1 / (T B).

    Raises:
        Error: parameters that are no floats; xs without axes of time and rows, state or weights of other sizes.
    """
    params, state, xs = jax.tree.map(jnp.asarray, (params, state, xs))
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = jax.tree_util.keystr(path)
            raise Error(f"params{name} is {leaf.dtype}, which has no gradient: make it a float, or close over it")
    shapes = [leaf.shape for leaf in jax.tree.leaves(xs)]
    if not shapes or min(map(len, shapes)) < 2:
        raise Error(f"xs must have leaves [T, B, ...], found {shapes}; for a single sequence add an axis of 1")
    num_steps, num_rows = shapes[0][:2]
    if {shape[:2] for shape in shapes} != {(num_steps, num_rows)} or 0 in (num_steps, num_rows):
        raise Error(f"the leaves of xs must share T and B, at least 1 each; found {shapes}")
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:1] != (num_rows,):
            name = jax.tree_util.keystr(path)
            raise Error(f"state{name} has shape {leaf.shape}, and xs {num_rows} rows: state has leaves [B, ...]")
    if weights is None:
        weights = jnp.full((num_steps, num_rows), 1 / (num_steps * num_rows))
    if jnp.shape(weights) != (num_steps, num_rows):
        raise Error(f"weights must be float[T, B] = [{num_steps}, {num_rows}], not {list(jnp.shape(weights))}")
    return params, state, xs, jnp.asarray(weights)

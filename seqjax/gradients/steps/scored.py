"""Keeps a loss of weight 0 out of the gradient, even where that loss is NaN or infinite.

A weight of 0 is not enough: 0 times NaN is NaN, and the backward pass multiplies the cotangent 0 of such a loss by
derivatives that are NaN. So a loss that does not count is evaluated at the values of a step whose loss does count. Its
value and its derivatives are then finite if they are finite at that step, and 0 times them is 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jaxtyping import Array, Bool, Float, PyTree

from seqjax.gradients.steps.dependence import needed_by
from seqjax.gradients.steps.jaxprs import inline_calls
from seqjax.gradients.steps.tangents import with_tangent_of


def scored_steps(weights: Float[Array, "*T"]) -> Bool[Array, "*T"] | None:
    """Which losses count, as `Problem.unroll` takes it: losses whose weight is not 0. None: all of them.

    Args:
        weights: of any shape. Only a numpy array is known during tracing; if it has no zeros, nothing has to be
            replaced.
    """
    return None if isinstance(weights, np.ndarray) and weights.all() else weights != 0


def replace_unscored(tree: PyTree, scored: Bool[Array, "..."]) -> PyTree:
    """The same tree, with the values at unscored steps replaced by those at the first scored step.

    Where no step is scored at all, floats are replaced by zeros.

    Args:
        tree: the values that the losses depend on, leaves [T, ...] for one sequence or [T, B, ...] for B rows.
        scored: bool[T] or bool[T, B], False where a loss has weight 0.
    """
    first, exists = jnp.argmax(scored.ravel()), scored.any()

    def leaf(a):
        example = jnp.asarray(a).reshape(scored.size, *a.shape[scored.ndim :])[first]
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return _choose(scored, a, example)
        chosen = _choose(scored, a, jnp.where(exists, example, jnp.zeros_like(example)))
        # Tangents and cotangents pass unchanged. For a replaced value they are multiplied by the weight 0 of its loss,
        # so that masking them too would only cost time.
        return with_tangent_of(chosen, a)

    return jax.tree.map(leaf, tree)


def _choose(scored, a, example):
    # Without the barrier XLA fuses the choice with the losses, and the losses that do count change in their last bits.
    chosen = jnp.where(scored.reshape(scored.shape + (1,) * (a.ndim - scored.ndim)), a, example)
    return jax.lax.optimization_barrier(chosen)


def split_step(step: Callable, params: PyTree, state: PyTree, x: PyTree) -> tuple[Callable, Callable]:
    """A step in two parts: one gives the next state, the other one the loss.

    The loss can be evaluated at replaced values only if it is computed separately from the state.

    Args:
        step: (params, state, x) -> (new state, loss), one sequence, one step.
        params: the parameters.
        state: the state of one sequence, or its shapes and dtypes.
        x: what one step reads, or its shapes and dtypes.

    Returns:
        Two functions, advance(params, state, x) -> (new state, between) and loss(params, between) -> float[], where
        `between` holds all values besides the parameters that the loss depends on.
    """
    # A new function for each call: JAX caches traces by the function object, and a step may close over a value that has
    # changed since.
    closed, shapes = jax.make_jaxpr(lambda *args: step(*args), return_shape=True)(params, state, x)
    closed = inline_calls(closed)
    jaxpr, num_params = closed.jaxpr, len(jax.tree.leaves(params))
    *after, loss = jaxpr.outvars

    # Equations that the new state does not need belong to the loss.
    needed = needed_by(after, jaxpr)
    first = [equation for equation in jaxpr.eqns if needed.intersection(equation.outvars)]
    second = [equation for equation in jaxpr.eqns if not needed.intersection(equation.outvars)]

    made = {v for equation in second for v in equation.outvars}
    known = {*jaxpr.constvars, *jaxpr.invars[:num_params]}
    read = [v for v in (*(v for equation in second for v in equation.invars), loss) if not isinstance(v, Literal)]
    between = [v for v in dict.fromkeys(read) if v not in made and v not in known]

    if any(v not in needed and v not in jaxpr.invars for v in between):
        # One equation, such as a step inside of jax.checkpoint, computes values for the state and for the loss, so that
        # the equations cannot be separated. The whole step is then evaluated again for the loss.
        return lambda params, state, x: (step(params, state, x)[0], (state, x)), (
            lambda params, between: step(params, *between)[1]
        )

    to_state = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(outvars=[*after, *between], eqns=first), closed.consts))
    to_loss = jaxpr_as_fun(
        ClosedJaxpr(
            jaxpr.replace(invars=[*jaxpr.invars[:num_params], *between], outvars=[loss], eqns=second), closed.consts
        )
    )

    def advance(params, state, x):
        values = to_state(*jax.tree.leaves((params, state, x)))
        return jax.tree.unflatten(jax.tree.structure(shapes[0]), values[: len(after)]), values[len(after) :]

    return advance, lambda params, between: to_loss(*jax.tree.leaves(params), *between)[0]

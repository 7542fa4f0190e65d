"""A step for one sequence, scanned over time for many rows, with weights on the edges between steps."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.gradients.steps.tangents import with_tangent_of

EdgeWeights = Float[Array, "T ..."] | None
"""float[T] or float[T, B]: entry t multiplies the tangents, of every order, of the state that enters step t.

None: all ones.
"""


def weigh_edge[T](state: T, weight: Float[Array, "..."], chosen: Sequence[bool] | None = None) -> T:
    """The same state, with the tangents of its float leaves multiplied by `weight`.

    Args:
        state: leaves [B, ...].
        weight: float[] or float[B]; it is cast to each leaf's dtype.
        chosen: for each leaf of the state, whether its tangents are multiplied; None: those of all leaves.
    """

    def leaf(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        # A weight of all rows stays a scalar: the derivative then keeps no mask as large as the state.
        axes = (1,) * (x.ndim - weight.ndim) if weight.ndim else ()
        factor = jax.lax.stop_gradient(weight).astype(x.dtype).reshape(weight.shape + axes)
        # `stop_gradient(x) + factor * (x - stop_gradient(x))` would have the same derivative, but it is NaN where the
        # state is infinite. A cut also stops a derivative that is not finite.
        return with_tangent_of(x, jnp.where(factor == 0, 0, x) * factor)

    leaves, treedef = jax.tree.flatten(state)
    chosen = [True] * len(leaves) if chosen is None else chosen
    return jax.tree.unflatten(treedef, [leaf(a) if use else a for a, use in zip(leaves, chosen, strict=True)])


def weigh_cotangent[T](state: T, edge_weight: Float[Array, "..."]) -> T:
    """The cotangent of a state, leaves [B, ...], times edge_weight, float[] or float[B].

    A weight of 0 also stops a cotangent that is not finite.
    """

    def leaf(a):
        weight = edge_weight.astype(a.dtype).reshape(edge_weight.shape + (1,) * (a.ndim - edge_weight.ndim))
        return jnp.where(weight == 0, 0, a * weight)

    return jax.tree.map(leaf, state)


def unroll[T](step: Callable, state: T, xs: PyTree, edge_weights: EdgeWeights = None) -> tuple[T, Any]:
    """Scans a step that is written for one sequence over time, for B rows side by side.

    Args:
        step: (state, x) -> (new state, output), one sequence, one time step.
        state: leaves [B, ...].
        xs: leaves [T, B, ...].
        edge_weights: entry t multiplies the tangent of the state that enters step t; the value of the state is
            unchanged. All ones give full backpropagation through time, and a zero cuts the edge.

    Returns:
        The state after the last step, leaves [B, ...], and the outputs, leaves [T, B, ...].
    """
    rows = jax.vmap(step)

    def body(state, inputs):
        x, weight = inputs
        return rows(state if weight is None else weigh_edge(state, weight), x)

    return jax.lax.scan(body, state, (xs, edge_weights))

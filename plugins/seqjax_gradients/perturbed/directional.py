"""The gradient in given directions, in forward mode."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax import Error, SequenceGradient, register
from seqjax.gradients import Memory, weighted_sum

MOST_PARAMETERS = 4096
"""The largest number of parameters whose unit vectors are taken: they are P² numbers."""


@register("gradient", "directional")
@dataclass(frozen=True)
class Directional(SequenceGradient):
    """The slopes in given directions, times the directions.

        g = Σ_n (∂L/∂θ · d_n) d_n

    L is the loss of the window. For orthonormal directions g is the projection of the gradient on the space that they
    span. Nothing is stored along the window: one forward pass with N tangents gives the loss and all slopes.

    The directions are `Memory.shared`, like the parameters with a leading axis [N]:

        estimate(step, Directional())(params, state, xs, memory=Memory(shared=directions))

    Without any, they are the P unit vectors, and the gradient is exact. The claim refers to these.
    """

    claim = "exact"
    of = "window"
    for_one_step = True

    def init(self, problem, params, state, x=None):
        """The unit vectors.

        Raises:
            Error: there are more than `MOST_PARAMETERS` parameters.
        """
        vector, unravel = ravel_pytree(params)
        if vector.size > MOST_PARAMETERS:
            raise Error(
                f"directional: {vector.size:,} parameters have too many unit vectors (at most {MOST_PARAMETERS:,}); "
                "give directions with memory=Memory(shared=directions), like the parameters with a leading axis"
            )
        return Memory(shared=jax.vmap(unravel)(jnp.eye(vector.size, dtype=vector.dtype)))

    def one(self, problem, params, start, memory, xs, weights, noise):
        """One forward-mode derivative (jvp) for each direction."""
        slope = functools.partial(slope_along, problem, params, start, xs, weights)
        slopes, loss, state = jax.vmap(slope, out_axes=(0, None, None))(memory.shared)
        grads = jax.tree.map(lambda d: jnp.tensordot(slopes.astype(d.dtype), d, 1), memory.shared)
        return loss, grads, state, memory


def slope_along(problem, theta, start, xs, weights, direction, to_params=lambda params: params):
    """The derivative of a row's loss along a direction, float[], the loss, and the state after the last step.

    `theta` and `direction` are trees like the parameters, or other arguments of `to_params`, which returns these.
    """

    def loss(theta):
        params = to_params(theta)
        state, losses = jax.lax.scan(functools.partial(problem.step, params), start(params), xs)
        return weighted_sum(weights, losses), state

    total, slope, state = jax.jvp(loss, (theta,), (direction,), has_aux=True)
    return slope, total, state

"""Backpropagation through time in which the gradient by the state is clipped at every step."""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Gradient, register
from seqjax.gradients import norm, scan_rows, split_float, window_gradient


@register("gradient", "clipped")
@dataclass(frozen=True)
class Clipped(Gradient):
    """Full backpropagation, with the gradient by the state clipped at every step of the backward pass.

        λ_{t-1} = clip(λ_t J_t + q_t),   J_t = ∂s_t/∂s_{t-1},   q_t = w_t ∂l_t/∂s_{t-1}

    A system that explodes over many steps then gives a finite gradient, whose recent parts are exact as long as nothing
    is clipped (clipping inside of the recurrence: Graves 2013, "Generating sequences with recurrent neural networks",
    arXiv:1308.0850). Each row is clipped on its own. The limit is in units of the mean weight of the row's scored
    losses, so that it does not depend on the numbers of steps and rows.
    """

    cites = ("graves2013generating",)

    limit: Annotated[float, Interval(gt=0)] = 1.0
    """The largest norm of the gradient by the state, or the largest absolute value of its entries."""
    by: Literal["norm", "value"] = "norm"
    """Whether the norm over all leaves of the state is limited, or each of its entries."""

    claim = "biased"
    of = "window"
    argnums = (0, 1, 2)

    def estimate(self, problem, params, start, memory, batch, noise):
        num_scored_B = jnp.sum(jnp.where(batch.weights != 0, 1.0, 0.0), 0).astype(batch.weights.dtype)
        mean_B = jnp.sum(jnp.abs(batch.weights), 0) / jnp.maximum(num_scored_B, 1)
        problem = _clipped(problem, self.by, self.limit * mean_B)
        return window_gradient(problem, params, start, batch)._replace(memory=memory)


def _clipped(problem, by, limits):
    """The problem whose steps clip the cotangent of the state that enters them; limits float[B]."""

    def step(params, state, inputs):
        x, limit = inputs
        return problem.step_with_outputs(params, clip_cotangent(by, state, limit), x)

    def run(params, state, xs, edge_weights=None, scored=None):
        limits_TB = jnp.broadcast_to(limits, (len(jax.tree.leaves(xs)[0]), len(limits)))
        return scan_rows(step, params, state, (xs, limits_TB), edge_weights, scored)

    return problem.changed(run=run, fused=False)


def clip_cotangent(by, state, limit):
    """The state of one row, unchanged; the cotangent of its float leaves is clipped in the backward pass."""
    floats, others, join = split_float(state)
    return join(_clip(by, floats, limit), others) if floats else state


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _clip(by, floats, limit):
    return floats


def _backward(by, limit, cotangents):
    if by == "value":
        clipped = [jnp.clip(a, -limit.astype(a.dtype), limit.astype(a.dtype)) for a in cotangents]
        return clipped, jnp.zeros_like(limit)
    size = norm(cotangents)
    factor = jnp.where(size > limit, limit.astype(size.dtype) / jnp.where(size > 0, size, 1), 1)
    # A cotangent with an infinite norm has no direction, and is set to 0. One that is NaN stays NaN.
    return [jnp.where(jnp.isinf(size), 0, a * factor.astype(a.dtype)) for a in cotangents], jnp.zeros_like(limit)


_clip.defvjp(lambda by, floats, limit: (floats, limit), _backward)

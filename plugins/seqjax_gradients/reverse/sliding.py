"""Backpropagation through time, in which each loss is differentiated a fixed number of steps back."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Gradient, register
from seqjax.gradients import Estimate, record_rows, split_float, weighted_sum
from seqjax.gradients.influence.trajectory import scan_blocks

BLOCK = 64
"""The number of steps that are differentiated at a time."""


@register("gradient", "sliding")
@dataclass(frozen=True)
class Sliding(Gradient):
    """Differentiates each loss through exactly its last `steps` steps: the parts of the gradient of lags 0 to K - 1.

        g = Σ_t ∂l_t/∂w + Σ_{k=1}^{K-1} λ^(k)_t ∂s_t/∂w,   λ^(1)_{t-1} = ∂l_t/∂s_{t-1},   λ^(k+1)_{t-1} = λ^(k)_t J_t

    (Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories": BPTT(K)). K - 1 cotangents are carried back side by side, so a backward step costs K - 1 times as
    much as with the full gradient; the part of the parameters is one product for all of them. The states of all T steps
    are kept, and the residuals of one block of `BLOCK` steps. Nothing is stored from window to window, so the first
    K - 1 losses of a window reach back to its start and no further.
    """

    cites = ("williams1990efficient",)

    steps: Annotated[int, Interval(ge=1)] = 10
    """K, the number of steps that each loss is differentiated through, including its own."""

    claim = "biased"
    of = "window"

    @property
    def for_one_step(self):
        """Whether each loss is differentiated through one step."""
        return self.steps == 1

    def estimate(self, problem, params, start, memory, batch, noise):
        state = start(params)
        after, losses, trajectory = record_rows(problem, params, state, batch.xs, batch.weights)
        loss, steps = weighted_sum(batch.weights, losses), trajectory.steps

        # λ^(1), ..., λ^(K-1) of the state that step t returns, leaves [K - 1, B, ...]. One step further back each of
        # them moves up by one place, and the oldest is dropped. All of them meet the same ∂s_t/∂w, so they are summed.
        def back(cotangents, inputs):
            step, q = inputs
            passed = trajectory.back(cotangents, step)
            return jax.tree.map(lambda q, a: jnp.concatenate([q[None], a[:-1]]), q, passed), _sum(cotangents)

        def block(carry, steps):
            cotangents, grads = carry
            _, direct, q = trajectory.of_losses(steps)
            if self.steps > 1 and steps.floats:
                cotangents, through = jax.lax.scan(back, cotangents, (steps, q), reverse=True)
                direct = jax.tree.map(jnp.add, direct, trajectory.to_params(steps)(through))
            return cotangents, jax.tree.map(jnp.add, grads, direct)

        # No gradient travels further back than to the state in which the window starts.
        num_lags = min(self.steps - 1, len(batch.weights))
        nothing = [jnp.zeros((num_lags, *a.shape[1:]), a.dtype) for a in steps.floats]
        carry = nothing, jax.tree.map(jnp.zeros_like, params)
        entering, grads = scan_blocks(block, carry, steps, min(BLOCK, len(batch.weights)))
        # A learned initial state lies one step before the first step.
        _, pull = jax.vjp(lambda params: split_float(start(params))[0], params)
        grads = jax.tree.map(jnp.add, grads, pull(_sum(entering))[0])
        return Estimate(loss, grads, after, memory)


def _sum(cotangents):
    """The sum over the lags."""
    return [a.sum(0) for a in cotangents]

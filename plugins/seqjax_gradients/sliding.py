"""Backpropagation through time, each loss exactly so many steps back."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Gradient, register
from seqjax.gradients import Estimate, Linear, forward, split_float, weighted_sum


@register("gradient", "sliding")
@dataclass(frozen=True)
class Sliding(Gradient):
    """Differentiates each loss through exactly its last `steps` steps: the parts of the gradient of lag 0 to K - 1.

        g = Σ_t ∂l_t/∂w + Σ_{k=1}^{K-1} λ^(k)_t ∂s_t/∂w,   λ^(1)_{t-1} = ∂l_t/∂s_{t-1},   λ^(k+1)_{t-1} = λ^(k)_t J_t

    (Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories": BPTT(K)). K - 1 cotangents go back side by side, so a step back costs K - 1 times that of the
    full gradient; the parameters' part is one product for all. Nothing is stored from window to window, so the first
    K - 1 losses of a window reach back to its start and no further.
    """

    steps: Annotated[int, Interval(ge=1)] = 10
    """K, how many steps each loss is differentiated through, its own among them."""

    claim = "biased"
    of = "window"

    def estimate(self, problem, params, start, memory, batch, noise):
        state = start(params)
        after, losses, steps = forward(problem, params, state, batch.xs, batch.weights)
        loss = weighted_sum(batch.weights, losses)
        linear = Linear.of(problem, params, state)
        direct, q = linear.losses(steps)
        if self.steps == 1 or not steps.floats:
            return Estimate(loss, direct, after, memory)

        def back(cotangents, inputs):
            step, q = inputs
            passed = linear.back(cotangents, step)
            return jax.tree.map(lambda q, a: jnp.concatenate([q[None], a[:-1]]), q, passed), _sum(cotangents)

        nothing = [jnp.zeros((self.steps - 1, *a.shape[1:]), a.dtype) for a in steps.floats]
        entering, through = jax.lax.scan(back, nothing, (steps, q), reverse=True)
        _, pull = jax.vjp(lambda params: split_float(start(params))[0], params)
        parts = direct, linear.to_params(steps)(through), pull(_sum(entering))[0]
        return Estimate(loss, jax.tree.map(lambda *a: sum(a), *parts), after, memory)


def _sum(cotangents):
    """Over the lags."""
    return [a.sum(0) for a in cotangents]

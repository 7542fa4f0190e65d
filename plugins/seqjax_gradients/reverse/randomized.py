"""Backpropagation through time, truncated at random without bias."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Error, WeightedEdges, register
from seqjax.gradients import bit_patterns

Probability = Annotated[float, Interval(gt=0, le=1)]


@register("gradient", "randomized")
@dataclass(frozen=True)
class Randomized(WeightedEdges):
    """Cuts edges at random, and reweights the other edges so that the mean is the full gradient.

        z_t = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 1/π_t with probability π_t, else 0

    so E[ξ_t] = 1 and E[z_t] = dh_t/dw (Tallec & Ollivier 2017, arXiv:1705.08209).
    """

    cites = ("tallec2017unbiasing",)

    keep_prob: Probability | tuple[Probability, ...] = 0.9
    """π_t, the probability that the gradient passes from step t to step t - 1: one number, or one for each step."""

    claim = "unbiased"

    def draw(self, key, problem, params, memory, num_steps):
        """Which edges are kept, bool[T]."""
        return jax.random.bernoulli(key, self._keep_prob(num_steps))

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^T patterns of kept edges."""
        kept_MT, pi_T = bit_patterns(num_steps), self._keep_prob(num_steps)
        return kept_MT, jnp.prod(jnp.where(kept_MT, pi_T, 1 - pi_T), axis=1)

    def edge_weights(self, noise, memory, num_steps):
        """The weights ξ_t of the edges."""
        return jnp.where(noise, 1 / self._keep_prob(num_steps), 0), memory

    def _keep_prob(self, num_steps):
        if isinstance(self.keep_prob, tuple) and len(self.keep_prob) != num_steps:
            raise Error(
                f"keep_prob has {len(self.keep_prob)} entries for windows of {num_steps} steps; "
                "give one number, or one for each step"
            )
        return jnp.broadcast_to(jnp.asarray(self.keep_prob, float), (num_steps,))

"""The gradient strategy fixed-share."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

import seqjax
from seqjax.gradients import bit_patterns


@seqjax.register("gradient", "fixed-share")
@dataclass(frozen=True)
class FixedShare(seqjax.WeightedEdges):
    """Each edge is kept with probability `share`, and then reweighted, so that the mean is the full gradient."""

    share: Annotated[float, Interval(gt=0, le=1)] = 0.9
    """The probability."""

    claim = "unbiased"

    def draw(self, key, problem, params, memory, num_steps):
        """Whether each edge is kept, bool[T]."""
        return jax.random.bernoulli(key, self.share, (num_steps,))

    def outcomes(self, problem, params, memory, num_steps):
        """All patterns of kept edges, and their probabilities."""
        kept = bit_patterns(num_steps)
        return kept, jnp.prod(jnp.where(kept, self.share, 1 - self.share), axis=1)

    def edge_weights(self, noise, memory, num_steps):
        """1/share or 0, float[T]."""
        return jnp.where(noise, 1 / self.share, 0.0), memory

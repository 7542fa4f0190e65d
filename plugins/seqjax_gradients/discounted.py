"""Backpropagation through time, discounted."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval

from seqjax import WeightedEdges, register


@register("gradient", "discounted")
@dataclass(frozen=True)
class Discounted(WeightedEdges):
    """Multiplies the gradient by a constant at every step that it travels.

        dh_t/dw = ∂f/∂w + λ ∂f/∂h dh_{t-1}/dw

    so that the part which travels k steps back counts λ^k: a cut without an edge. 0 is `sliding` over one step, 1 is
    `full`. The state that the window starts with lies one step before its first step, and is discounted too. It is the
    mean of random cuts with probability 1 - λ whose survivors are not reweighted.
    """

    discount: Annotated[float, Interval(ge=0, le=1)] = 0.9
    """λ, the share of the gradient that passes from one step to the step before."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        """λ everywhere."""
        return jnp.full(num_steps, self.discount, float), memory

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

    The part that travels k steps back is multiplied by λ^k, so that no lag is cut off suddenly. λ = 0 is `sliding` over
    one step, and λ = 1 is `full`. The state with which the window starts lies one step before its first step, and is
    discounted as well. The gradient is the mean of one whose edges are cut at random with probability 1 - λ, without
    reweighting.
    """

    discount: Annotated[float, Interval(ge=0, le=1)] = 0.9
    """λ, the share of the gradient that passes from one step to the previous one."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        """λ at every step."""
        return jnp.full(num_steps, self.discount, float), memory

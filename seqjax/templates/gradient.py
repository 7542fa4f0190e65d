"""The gradient strategy my-gradient."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval

import seqjax


@seqjax.register("gradient", "my-gradient")
@dataclass(frozen=True)
class MyGradient(seqjax.WeightedEdges):
    """Backpropagation in which every second edge between steps lets only a part of the gradient pass."""

    weight: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """The part that passes."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        """The weights float[T] of one sequence. The first edge leads to the state in which the window starts."""
        return jnp.where(jnp.arange(num_steps) % 2 == 1, self.weight, 1.0), memory

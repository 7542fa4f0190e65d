"""Backpropagation through time, truncated at regular intervals."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import WeightedEdges, register
from seqjax.gradients import segment_edges


@register("gradient", "truncated")
@dataclass(frozen=True)
class Truncated(WeightedEdges):
    """Cuts the gradient at every `steps`-th step of the window.

        dh_t/dw = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 0 if t is a positive multiple of `steps`, else 1

    (Williams & Peng 1990). The window is a sequence of independent segments. Its first step is not cut, so that a
    learned initial state gets its gradient. Where one window ends and the next one starts is decided by the sampler.
    """

    steps: Annotated[int, Interval(ge=1)] = 10
    """The length of a segment in time steps."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        """0 at positive multiples of `steps`, else 1."""
        return segment_edges(num_steps, self.steps), memory

"""Backpropagation through time, regularly truncated."""

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

    The window is a row of independent segments. Its first step is not cut, so that a learned initial state
    gets its gradient; the edge between windows is the sampler's (Williams & Peng 1990).
    """

    steps: Annotated[int, Interval(ge=1)] = 10
    """Length of a segment in time steps."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        """Zero at positive multiples of `steps`, else one."""
        return segment_edges(num_steps, self.steps), memory

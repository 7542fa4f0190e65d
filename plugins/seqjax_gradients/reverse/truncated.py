"""Backpropagation through time, truncated at regular intervals."""

from dataclasses import dataclass
from typing import Annotated

import jax
import numpy as np
from annotated_types import Interval

from seqjax import WeightedEdges, register
from seqjax.gradients import segment_gradient
from seqjax.gradients.reverse.edges import segment_edges


@register("gradient", "truncated")
@dataclass(frozen=True)
class Truncated(WeightedEdges):
    """Cuts the gradient at every `steps`-th step of the window.

        dh_t/dw = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 0 if t is a positive multiple of `steps`, else 1

    (Williams & Peng 1990). The window is a sequence of independent segments, which are differentiated one after the
    other, so that the residuals of `steps` steps are kept. The first step of the window is not cut, so that a learned
    initial state gets its gradient. The sampler decides where one window ends and the next one starts.
    """

    cites = ("williams1990efficient",)
    also_called = ("tbptt", "truncated-bptt", "truncate", "detach")

    steps: Annotated[int, Interval(ge=1)] = 10
    """The length of a segment in time steps."""

    claim = "biased"

    @property
    def for_one_step(self):
        """Whether a segment is one step."""
        return self.steps == 1

    def edge_weights(self, noise, memory, num_steps):
        """0 at positive multiples of `steps`, else 1."""
        return segment_edges(num_steps, self.steps), memory

    def kept(self, max_lag: int) -> np.ndarray:
        """The share of the gradient at lags 0 to `max_lag` that is kept, float64[max_lag + 1].

        The loss of step j of a segment, j = 0, ..., steps - 1, reaches back j steps. So lag k is kept by the share
        max(0, 1 - k / steps) of the losses. `Lags.bias_of` takes these shares.
        """
        return np.maximum(0, 1 - np.arange(max_lag + 1) / self.steps)

    def gradient(self, problem, params, start, batch, edge_weights):
        """One segment after the other, in which no edge is cut; or one pass with edge weights where that is faster."""
        num_steps, num_rows = batch.weights.shape
        # A fused unroll adds to the whole gradient of W_hh once for each segment, but only once in one pass. Where a
        # segment has few rows and steps, and the window fits into the cache, one pass is faster: an RNN of 256 units, T
        # = 256, takes 2.4 ms against 7.3 with 1 row, K = 4, and 10.6 against 13.4 with 8 rows, K = 10. In all other
        # cases segments are as fast or faster: with 32 rows, K = 10, they take .91 (RNN), .83 (GRU), .81 (LSTM) of the
        # time, K = 35 .71, .87, .93, and .72 with T = 5,000, 8 rows, K = 50; the plain scan of a step .72 to .97 (two
        # cores of an AMD EPYC).
        numbers = num_steps * sum(a.size for a in jax.tree.leaves(jax.eval_shape(start, params)))
        one_pass = problem.fused and self.steps * num_rows < 128 and numbers <= 2**20
        if one_pass or not problem.weighs_whole_state:
            return super().gradient(problem, params, start, batch, edge_weights)
        return segment_gradient(problem, params, start, batch, self.steps)

    def scan(self, call, noise, memory):
        """Runs one segment after the other."""
        return call.in_segments(self.steps)

    def loop(self, call):
        """Cuts between segments of executed steps, counted from the first step."""
        return call.masked(lambda scan: scan.in_segments(self.steps))

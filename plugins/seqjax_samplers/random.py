"""Random sampling: windows in random order."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import cut_windows


@register("sampler", "random")
@dataclass(frozen=True)
class Random(Sampler):
    """Cuts the stream into windows side by side from a random offset, and shuffles them.

    Every window is fresh: its state starts anew. Windows that do not fill a batch are left out, and so is what is left
    at the end of a document.
    """

    batch_size: Annotated[int, Interval(ge=1)] = 32
    """Windows side by side."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window."""

    def plan(self, bounds, rng):
        """An offset of 0 to num_steps - 1 in each document, then a random order."""
        B, T = self.batch_size, self.num_steps
        offsets = np.arange(T)
        counts = np.maximum((np.diff(bounds)[:, None] - offsets) // T, 0).sum(0)
        if counts[0] < B:
            raise Error(
                f"sampler random: batch_size = {B} needs as many windows of {T} targets, found {counts[0]}\n"
                "Use more text, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        first = np.minimum(bounds[:-1] + rng.choice(offsets[counts >= B]), bounds[1:])
        starts, lengths, _ = cut_windows(first, bounds[1:], T)
        starts = rng.permutation(starts[lengths == T])
        starts = starts[: len(starts) // B * B].reshape(-1, B)
        scored = np.broadcast_to(np.array([0, T], np.int32), (*starts.shape, 2))
        return Plan(starts, scored, np.ones(starts.shape, bool))

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

    Every window is reset: its state starts anew. Windows that do not fill a batch are left out, and so is what is left
    at the end of a document. Of several documents each has an offset of its own, within what its windows leave over, so
    that every epoch has as many of them.
    """

    batch_size: Annotated[int, Interval(ge=1)] = 32
    """Windows side by side."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window."""

    def plan(self, bounds, rng):
        """An offset of 0 to num_steps - 1 in a document that is the only one, then a random order."""
        B, T = self.batch_size, self.num_steps
        lengths = np.diff(bounds)
        counts = lengths // T
        if counts.sum() < B:
            raise Error(
                f"sampler random: batch_size = {B} needs as many windows of {T} targets, found {counts.sum()}\n"
                "Use more text, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        spare = lengths - T * (B if np.count_nonzero(lengths) == 1 else counts)
        first = bounds[:-1] + rng.integers(0, np.clip(spare, 0, T - 1), endpoint=True)
        starts, lengths, _ = cut_windows(first, bounds[1:], T)
        starts = rng.permutation(starts[lengths == T])
        starts = starts[: len(starts) // B * B].reshape(-1, B)
        scored = np.broadcast_to(np.array([0, T], np.int32), (*starts.shape, 2))
        return Plan(starts, scored, np.ones(starts.shape, bool))

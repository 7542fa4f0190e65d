"""The sampler random: windows in random order."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import BATCH_SIZE, NUM_STEPS, cut_windows


@register("sampler", "random")
@dataclass(frozen=True)
class Random(Sampler):
    """Cuts the stream into consecutive windows from a random offset, and shuffles them.

    Every window is reset. Windows that do not fill a batch are left out, and so are the steps at the end of a document
    that do not fill a window. If there are several documents, each has its own offset, which is so small that the
    number of its windows is the same in every epoch.
    """

    also_called = ("shuffle", "shuffled")

    batch_size: Annotated[int, Interval(ge=1)] = BATCH_SIZE
    """Number of windows in a batch."""
    num_steps: Annotated[int, Interval(ge=1)] = NUM_STEPS
    """Time steps of a window."""

    most_visits = 1

    def plan(self, bounds, rng):
        """Windows from an offset of 0 to num_steps - 1 in a single document, in random order."""
        B, T = self.batch_size, self.num_steps
        lengths = np.diff(bounds)
        counts = lengths // T
        if counts.sum() < B:
            raise Error(
                f"sampler random: batch_size = {B} needs as many windows of {T} targets, found {counts.sum()}\n"
                "Use more data, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        # The steps that no window needs: an offset may use them up. A single document needs only one batch.
        spare = lengths - T * (B if np.count_nonzero(lengths) == 1 else counts)
        first = bounds[:-1] + rng.integers(0, np.clip(spare, 0, T - 1), endpoint=True)
        starts, lengths, _ = cut_windows(first, bounds[1:], T)
        starts = rng.permutation(starts[lengths == T])
        starts = starts[: len(starts) // B * B].reshape(-1, B)
        scored = np.broadcast_to(np.array([0, T], np.int32), (*starts.shape, 2))
        return Plan(starts, scored, np.ones(starts.shape, bool))

"""The sampler my-sampler."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

import seqjax
from seqjax.data import cut_windows


@seqjax.register("sampler", "my-sampler")
@dataclass(frozen=True)
class MySampler(seqjax.Sampler):
    """Cuts each document into windows from its start, and reads them in random order. Every window is reset."""

    batch_size: Annotated[int, Interval(ge=1)] = 16
    """Number of windows in a batch."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window."""

    most_visits = 1

    def plan(self, bounds, rng):
        """The windows of one epoch, without those that are shorter than `num_steps` or that fill no batch."""
        starts, lengths, _ = cut_windows(bounds[:-1], bounds[1:], self.num_steps)
        starts = rng.permutation(starts[lengths == self.num_steps])
        num_batches = len(starts) // self.batch_size
        if num_batches == 0:
            raise seqjax.Error(
                f"sampler my-sampler: batch_size = {self.batch_size} needs as many windows of {self.num_steps} steps, "
                f"found {len(starts)}; use more data, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        starts = starts[: num_batches * self.batch_size].reshape(num_batches, self.batch_size)
        scored = np.broadcast_to(np.array([0, self.num_steps], np.int32), (*starts.shape, 2))
        return seqjax.Plan(starts, scored, reset=np.ones(starts.shape, bool))

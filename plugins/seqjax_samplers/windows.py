"""The sampler windows: all windows at multiples of a stride."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import NUM_STEPS


@register("sampler", "windows")
@dataclass(frozen=True)
class Windows(Sampler):
    """All windows that lie in a document and start a multiple of `stride` steps after its start.

    Windows may overlap. Every window is reset. The last batch is filled up with rows that are not scored.
    """

    also_called = ("sliding-window",)

    batch_size: Annotated[int, Interval(ge=1)] = 16
    """Number of windows in a batch."""
    num_steps: Annotated[int, Interval(ge=1)] = NUM_STEPS
    """Time steps of a window."""
    stride: Annotated[int, Interval(ge=1)] = 1
    """Steps from the start of a window to the start of the next one; if it is `num_steps`, windows do not overlap."""
    shuffle: bool = True
    """Whether each epoch has the windows in a random order."""

    @property
    def most_visits(self):
        """The number of windows that contain a target far from the ends of its document."""
        return -(-self.num_steps // self.stride)

    def plan(self, bounds, rng):
        """Each of the n windows once, in ⌈n / batch_size⌉ batches."""
        B, T = self.batch_size, self.num_steps
        counts = np.maximum((np.diff(bounds) - T) // self.stride + 1, 0)
        if not counts.sum():
            longest = np.diff(bounds).max(initial=0)
            raise Error(
                f"sampler windows: num_steps = {T} needs a document of as many targets; the longest has {longest}\n"
                "Use longer documents, or a smaller --sampler.num-steps"
            )
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.repeat(bounds[:-1], counts) + nth * self.stride
        if self.shuffle:
            starts = rng.permutation(starts)
        shape = (-(-len(starts) // B), B)
        plan = Plan(np.zeros(shape, np.int64), np.zeros((*shape, 2), np.int32), np.ones(shape, bool))
        plan.starts.flat[: len(starts)] = starts
        plan.scored.reshape(-1, 2)[: len(starts), 1] = T
        return plan

"""The sampler sequential: each row of a batch continues the same row of the previous batch."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import BATCH_SIZE, NUM_STEPS, cut_windows


@register("sampler", "sequential")
@dataclass(frozen=True)
class Sequential(Sampler):
    """Cuts the stream into `batch_size` long rows, and reads them side by side, window after window.

    Row i of a batch continues row i of the previous batch, so that the state can be carried. In each epoch the stream
    starts at a random offset of 0 to `num_steps`.

    If there are several documents, each is cut into windows, the last of which may be shorter. If a document ends
    inside a row, the next window is reset. So that all rows have equally many windows, fewer than `batch_size` windows
    are left out, a random number of them at the start of the stream and the others at its end.
    """

    batch_size: Annotated[int, Interval(ge=1)] = BATCH_SIZE
    """Number of rows in a batch."""
    num_steps: Annotated[int, Interval(ge=1)] = NUM_STEPS
    """Time steps of a window."""

    most_visits = 1

    def plan(self, bounds, rng):
        """(n - offset) // batch_size // num_steps windows in each row of a single document of n targets."""
        B, T, n = self.batch_size, self.num_steps, int(bounds[-1])
        if n < B * T:
            raise Error(
                f"sampler sequential: batch_size x num_steps = {B} x {T} needs {B * T:,} targets, found {n:,}\n"
                "Use more data, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        if np.count_nonzero(np.diff(bounds)) == 1:
            offset = int(rng.integers(0, min(T, n - B * T), endpoint=True))
            length = (n - offset) // B
            first = offset + length * np.arange(B)
            starts, lengths, segment = cut_windows(first, first + length // T * T, T)
        else:
            starts, lengths, segment = cut_windows(bounds[:-1], bounds[1:], T)
        # The windows in order are dealt to rows of N consecutive ones.
        N, left_over = divmod(len(starts), B)
        skip = int(rng.integers(0, left_over, endpoint=True))

        def by_row(windows):
            return windows[skip : skip + N * B].reshape(B, N).T

        reset = by_row(np.diff(segment, prepend=-1) > 0)
        reset[0] = True
        scored = np.stack([np.zeros((N, B), np.int32), by_row(lengths).astype(np.int32)], -1)
        return Plan(by_row(starts), scored, reset)

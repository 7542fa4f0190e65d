"""Sequential partitioning: each row of a batch goes on where it left off."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import cut_windows


@register("sampler", "sequential")
@dataclass(frozen=True)
class Sequential(Sampler):
    """Cuts the stream into `batch_size` long rows, and reads them side by side, window after window.

    Row i of a batch continues row i of the batch before, so that the state can be carried along. A random offset of 0
    to `num_steps` skips the start of the stream in each epoch.

    Of several documents each is cut into windows, the last of which may be short; where one ends inside a row, the next
    window is reset. Fewer than `batch_size` windows, at the start or the end of the stream, are left out at random, so
    that all rows are equally long.
    """

    batch_size: Annotated[int, Interval(ge=1)] = 32
    """Rows side by side."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window."""

    def plan(self, bounds, rng):
        """N = (n - offset) // batch_size // num_steps windows a row where there is one document of n targets."""
        B, T, n = self.batch_size, self.num_steps, int(bounds[-1])
        if n < B * T:
            raise Error(
                f"sampler sequential: batch_size x num_steps = {B} x {T} needs {B * T:,} targets, found {n:,}\n"
                "Use more text, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        if np.count_nonzero(np.diff(bounds)) == 1:
            offset = int(rng.integers(0, min(T, n - B * T), endpoint=True))
            length = (n - offset) // B
            first = offset + length * np.arange(B)
            starts, lengths, segment = cut_windows(first, first + length // T * T, T)
        else:
            starts, lengths, segment = cut_windows(bounds[:-1], bounds[1:], T)
        N, left_over = divmod(len(starts), B)
        skip = int(rng.integers(0, left_over, endpoint=True))

        def by_row(windows):
            return windows[skip : skip + N * B].reshape(B, N).T

        reset = by_row(np.diff(segment, prepend=-1) > 0)
        reset[0] = True
        scored = np.stack([np.zeros((N, B), np.int32), by_row(lengths).astype(np.int32)], -1)
        return Plan(by_row(starts), scored, reset)

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
    to `num_steps` skips the start of the stream in each epoch. Where a document ends inside a row, its last window is
    scored in part and the next one is fresh.
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
        offset = int(rng.integers(0, min(T, n - B * T), endpoint=True))
        length = (n - offset) // B
        first = offset + length * np.arange(B)
        last = first + length // T * T
        edges = np.unique(np.concatenate([first, last, bounds]))
        row = np.searchsorted(first, edges[:-1], side="right") - 1
        inside = (row >= 0) & (edges[:-1] < last[row])
        starts, lengths, segment = cut_windows(edges[:-1][inside], edges[1:][inside], T)
        row = row[inside][segment]
        nth = np.arange(len(row)) - np.searchsorted(row, row)
        shape = (nth.max() + 1, B)
        plan = Plan(np.zeros(shape, np.int64), np.zeros((*shape, 2), np.int32), np.zeros(shape, bool))
        plan.starts[nth, row] = starts
        plan.scored[nth, row, 1] = lengths
        plan.fresh[nth, row] = np.diff(segment, prepend=-1) > 0
        return plan

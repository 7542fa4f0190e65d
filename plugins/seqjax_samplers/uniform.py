"""The sampler uniform: every window, and so every target, is equally likely."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import BATCH_SIZE, NUM_STEPS


@register("sampler", "uniform")
@dataclass(frozen=True)
class Uniform(Sampler):
    """Draws windows at even distances from a random start, so that all windows are equally likely.

    Every window is reset. A window that overlaps an end of its document is cut there. There are W = Σ (n + T - 1)
    windows of T steps that overlap a document of n targets, and exactly T of them contain a given target, even one at
    an end of its document. An epoch of N = ⌊W / B T⌋ batches takes N B of them: it starts at a random window, moves on
    by even distances, continues at the start of the stream after its end (a systematic sample), and shuffles the
    result. So an epoch trains every target N B T / W times in expectation, and never twice. If windows were drawn
    independently, an epoch would miss more than a third of the targets.

    The cost is padding, at most W - Σ n steps in an epoch. For documents shorter than a window, `sentences` has less.
    """

    batch_size: Annotated[int, Interval(ge=1)] = BATCH_SIZE
    """Number of windows in a batch."""
    num_steps: Annotated[int, Interval(ge=1)] = NUM_STEPS
    """Time steps of a window."""

    most_visits = 1

    def plan(self, bounds, rng):
        """N batches, the same number in every epoch."""
        B, T = self.batch_size, self.num_steps
        lengths = np.diff(bounds)
        counts = np.where(lengths > 0, lengths + T - 1, 0)
        ends = np.cumsum(counts)
        total = int(counts.sum())
        if total < B * T:
            raise Error(
                f"sampler uniform: batch_size x num_steps = {B} x {T} needs {B * T:,} windows that overlap a document, "
                f"found {total:,}\nUse more data, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        size = total // (B * T) * B
        evenly = (rng.integers(total) + np.arange(size) * total // size) % total
        drawn = rng.permutation(evenly).reshape(-1, B)
        document = np.searchsorted(ends, drawn, side="right")
        # Window w of a document ends at the document's step w, or would do so if the document went on.
        last = bounds[document] + drawn - (ends - counts)[document]
        starts = np.maximum(last - T + 1, bounds[document])
        lengths = np.minimum(last + 1, bounds[document + 1]) - starts
        scored = np.stack([np.zeros_like(lengths), lengths], -1).astype(np.int32)
        return Plan(starts, scored, np.ones(starts.shape, bool))

"""Uniform sampling: all windows are equally likely, and so are all targets."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register


@register("sampler", "uniform")
@dataclass(frozen=True)
class Uniform(Sampler):
    """Cuts the stream into windows with a little room between them, so that every window is as likely as any other.

    Every window is reset. One that reaches over an end of its document is cut there, so that of the W = Σ (n + T - 1)
    windows of T steps that overlap documents of n targets, exactly T hold any given target, one at an end too. An epoch
    of N = ⌊W / B T⌋ batches takes N B of them in random order: spaced evenly, from a random one on and around the end
    of the stream (a systematic sample). So every target of every document is trained N B T / W times an epoch in
    expectation, and never twice in one. Of windows drawn independently, an epoch would miss more than a third of them.

    The cost is padding, up to W - Σ n steps an epoch: of documents shorter than a window, `sentences` has less.
    """

    batch_size: Annotated[int, Interval(ge=1)] = 32
    """Windows side by side."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window."""

    def plan(self, bounds, rng):
        """N batches, as many in every epoch."""
        B, T = self.batch_size, self.num_steps
        lengths = np.diff(bounds)
        counts = np.where(lengths > 0, lengths + T - 1, 0)
        ends = np.cumsum(counts)
        total = int(counts.sum())
        if total < B * T:
            raise Error(
                f"sampler uniform: batch_size x num_steps = {B} x {T} needs {B * T:,} windows that overlap a document, "
                f"found {total:,}\nUse more text, or a smaller --sampler.batch-size or --sampler.num-steps"
            )
        size = total // (B * T) * B
        evenly = (rng.integers(total) + np.arange(size) * total // size) % total
        drawn = rng.permutation(evenly).reshape(-1, B)
        document = np.searchsorted(ends, drawn, side="right")
        last = bounds[document] + drawn - (ends - counts)[document]  # its last step, if its document went on
        starts = np.maximum(last - T + 1, bounds[document])
        lengths = np.minimum(last + 1, bounds[document + 1]) - starts
        scored = np.stack([np.zeros_like(lengths), lengths], -1).astype(np.int32)
        return Plan(starts, scored, np.ones(starts.shape, bool))

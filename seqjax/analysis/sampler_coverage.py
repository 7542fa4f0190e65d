"""Counts how often a sampler trains each target of a stream."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from seqjax.data.sampler import Plan, Sampler, draw_plan
from seqjax.data.windows import past_warmup
from seqjax.errors import Error, check_whole
from seqjax.report.table import Table

if TYPE_CHECKING:  # matplotlib takes long to import
    import seqjax.report.figure

MOST_ROWS = 12
"""If there are more different counts than this, the table groups them into ranges."""


@dataclass(frozen=True, eq=False, repr=False)
class Coverage:
    """How often each target of a stream is trained in a number of epochs; made by `coverage`.

    `seqjax.plot.lines({"sequential": coverage.counts})` draws the counts along the stream.
    """

    counts: np.ndarray
    """int64[n], how often each target was trained in all epochs."""
    epochs: int
    """The number of epochs."""
    batches: int
    """The number of batches, and so of updates, in all epochs."""

    @property
    def never(self) -> int:
        """The number of targets that were never trained."""
        return int((self.counts == 0).sum())

    @property
    def per_epoch(self) -> float:
        """The mean number of targets that an epoch trains; a target that it trains twice counts twice."""
        return float(self.counts.sum() / self.epochs)

    @property
    def least(self) -> float:
        """The minimum over targets of the number of visits per epoch."""
        return float(self.counts.min() / self.epochs)

    @property
    def mean(self) -> float:
        """The mean over targets of the number of visits per epoch."""
        return float(self.counts.mean() / self.epochs)

    @property
    def most(self) -> float:
        """The maximum over targets of the number of visits per epoch."""
        return float(self.counts.max() / self.epochs)

    @property
    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """The different counts, rising, and the number of targets with each count: int64[m] both."""
        return np.unique_counts(self.counts)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of the table."""
        return ("times trained", "targets", "share")

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """The rows of the table: each count, or range of counts of equal width, with its targets and their share."""
        times, targets = self.times
        first = max(1, int(times[0]))  # targets that were never trained have their own row
        width = 1 if len(times) <= MOST_ROWS else -(-(int(times[-1]) - first + 1) // MOST_ROWS)
        group = np.where(times == 0, -1, (times - first) // width)
        rows = []
        for number in np.unique(group):
            inside = times[group == number].tolist()
            name = f"{inside[0]}" if len(inside) == 1 else f"{inside[0]} to {inside[-1]}"
            count = int(targets[group == number].sum())
            rows.append((name, count, count / len(self.counts)))
        return tuple(rows)

    def __str__(self) -> str:
        n, m = len(self.counts), self.epochs
        return (
            f"{n:,} targets, {m:,} epoch{'s' * (m != 1)}, {self.batches / m:,.4g} batches and {self.per_epoch:,.0f} "
            f"targets an epoch\n"
            f"an epoch trains a target {self.mean:.4g} times, {self.least:.4g} at least, {self.most:.4g} at most\n"
            f"never trained: {self.never:,} targets ({self.never / n:.2%})\n"
            f"{Table(self.columns, self.rows)}"
        )

    __repr__ = __str__

    def plot(self, *, figsize: tuple[float, float] | None = None) -> "seqjax.report.figure.Figure":
        """A matplotlib figure of the number of targets by times trained.

        Args:
            figsize: the width and the height in inches.
        """
        from seqjax.report import plot

        name = f"in {self.epochs:,} epoch{'s' * (self.epochs != 1)}; {self.never:,} targets never"
        return plot.lines({name: self.times}, x_label="times trained", y_label="number of targets", figsize=figsize)


def coverage(sampler: Sampler, bounds: Any, epochs: int = 1, seed: int = 0, *, warmup: int = 0) -> Coverage:
    """Counts how often each target is trained, in the plans that `train` draws for this seed.

    A target is trained if it lies in the scored range of a window. The mask of the stream is not considered.

    Args:
        sampler: a sampler; no model is needed.
        bounds: int[D + 1], where the documents of the stream begin and end; [0, n] for one document of n targets. (A
            text of n tokens has n - 1 targets.)
        epochs: the number of epochs; each has its own plan.
        seed: the seed of the run.
        warmup: the number of steps after a reset that are not scored, `model.warmup`.

    Raises:
        Error: the bounds do not rise from 0; the sampler's plan does not fit them, or they are too short for it.
    """
    check_whole(epochs=(epochs, 1), seed=(seed, 0), warmup=(warmup, 0))
    bounds = np.asarray(bounds)
    if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or (np.diff(bounds, prepend=0) < 0).any() or bounds[:1] != [0]:
        raise Error(f"bounds = {bounds} must be whole numbers that rise from 0 to the number of targets, as [0, 9999]")
    bounds = bounds.astype(np.int64)
    n, batches = int(bounds[-1]), 0
    # A range first <= t < last adds 1 at `first` and subtracts 1 at `last`; the cumulative sum gives the counts.
    changes = np.zeros(n + 1, np.int64)
    for epoch in range(epochs):
        plan = draw_plan(sampler, bounds, seed, epoch)
        batches += len(plan.starts)
        first, last = _scored(plan, warmup, sampler.num_steps)
        changes += np.bincount(first, minlength=n + 1) - np.bincount(last, minlength=n + 1)
    return Coverage(np.cumsum(changes[:-1]), epochs, batches)


def _scored(plan, warmup, num_steps):
    """The first step of each scored range in the stream, and the step after its last one; without empty ranges."""
    scored = past_warmup(Plan(*map(jnp.asarray, plan)), warmup, num_steps).scored if warmup else plan.scored
    first, last = np.moveaxis(np.asarray(scored, np.int64), -1, 0)
    some = first < last
    starts = plan.starts[some].astype(np.int64)
    return starts + first[some], starts + last[some]

"""`coverage`: how often a sampler trains each target."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from seqjax.data.sampler import Plan, Sampler, draw_plan
from seqjax.data.windows import past_warmup
from seqjax.errors import Error, is_whole
from seqjax.report.table import Table

MOST_ROWS = 12
"""Of the table: more different counts than this are put together."""


@dataclass(frozen=True, eq=False, repr=False)
class Coverage:
    """How often each target of a stream was trained in some epochs.

    Such counts by place are drawn with `seqjax.plot.lines({"sequential": coverage.counts})`.
    """

    counts: np.ndarray
    """By target, int64[n]: how often it was trained, all epochs together."""
    epochs: int
    """How many."""
    batches: int
    """Of all epochs together: the number of updates."""

    @property
    def never(self) -> int:
        """How many targets were never trained."""
        return int((self.counts == 0).sum())

    @property
    def per_epoch(self) -> float:
        """How many targets an epoch trains, those that it trains twice counted twice."""
        return float(self.counts.sum() / self.epochs)

    @property
    def least(self) -> float:
        """Of all targets, how often an epoch trains the one that is trained least."""
        return float(self.counts.min() / self.epochs)

    @property
    def mean(self) -> float:
        """How often an epoch trains a target."""
        return float(self.counts.mean() / self.epochs)

    @property
    def most(self) -> float:
        """Of all targets, how often an epoch trains the one that is trained most."""
        return float(self.counts.max() / self.epochs)

    @property
    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """Each number of times that occurs, rising, and how many targets were trained so often: int64[m] each."""
        return np.unique_counts(self.counts)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table of targets by times trained."""
        return ("times trained", "targets", "share")

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """Of the table of targets by times trained: by ranges of equal width where the times are many."""
        times, targets = self.times
        first = max(1, int(times[0]))  # 0 has a row of its own
        width = 1 if len(times) <= MOST_ROWS else -(-(int(times[-1]) - first + 1) // MOST_ROWS)
        place = np.where(times == 0, -1, (times - first) // width)
        found = []
        for which in np.unique(place):
            inside = times[place == which].tolist()
            name = f"{inside[0]}" if len(inside) == 1 else f"{inside[0]} to {inside[-1]}"
            count = int(targets[place == which].sum())
            found.append((name, count, count / len(self.counts)))
        return tuple(found)

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

    def plot(self) -> Any:
        """A matplotlib figure: how many targets were trained how often."""
        from seqjax.report import plot

        name = f"{self.epochs:,} epoch{'s' * (self.epochs != 1)}, {self.never:,} targets never"
        return plot.lines({name: self.times}, x_label="times trained", y_label="targets")


def coverage(sampler: Sampler, bounds: Any, epochs: int = 1, seed: int = 0, *, warmup: int = 0) -> Coverage:
    """How often each target is trained, counted over the plans that `training` draws for this seed.

    A target counts as trained where its plan scores it: in a batch's own range, whatever the stream's mask says.

    Args:
        sampler: any; only its plans are looked at.
        bounds: int[D + 1], where the documents of the stream begin and end; [0, n] for one of n targets. (A text of n
            tokens has n - 1.)
        epochs: how many; each has offsets and an order of its own.
        seed: of the run.
        warmup: the outputs after a reset that are not scored, `model.warmup`.

    Raises:
        Error: no such bounds; a plan outside of them; what the sampler says of a stream that is too short.
    """
    for name, value, least in (("epochs", epochs, 1), ("seed", seed, 0), ("warmup", warmup, 0)):
        if not is_whole(value) or value < least:
            raise Error(f"{name} = {value!r} must be a whole number, at least {least}")
    bounds = np.asarray(bounds)
    if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or (np.diff(bounds, prepend=0) < 0).any() or bounds[:1] != [0]:
        raise Error(f"bounds = {bounds} must be whole numbers that rise from 0 to the number of targets: [0, 9999]")
    bounds = bounds.astype(np.int64)
    n, batches = int(bounds[-1]), 0
    changes = np.zeros(n + 1, np.int64)  # of the count, from the target before
    for epoch in range(epochs):
        plan = draw_plan(sampler, bounds, seed, epoch)
        batches += len(plan.starts)
        first, last = _scored(plan, warmup, sampler.num_steps)
        changes += np.bincount(first, minlength=n + 1) - np.bincount(last, minlength=n + 1)
    return Coverage(np.cumsum(changes[:-1]), epochs, batches)


def _scored(plan, warmup, num_steps):
    """Where in the stream the scored ranges begin and end; empty ones are left out."""
    scored = past_warmup(Plan(*map(jnp.asarray, plan)), warmup, num_steps).scored if warmup else plan.scored
    first, last = np.moveaxis(np.asarray(scored, np.int64), -1, 0)
    some = first < last
    starts = plan.starts[some].astype(np.int64)
    return starts + first[some], starts + last[some]

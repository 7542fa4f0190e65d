"""Samplers that are wrong. `wrong` is told which checks must find it."""

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Interval
from support.wrong import wrong

import seqjax
from seqjax import Plan


@dataclass(frozen=True)
class Base(seqjax.Sampler):
    """A correct sampler, from which the others are derived: windows inside of documents, each reset."""

    batch_size: Annotated[int, Interval(ge=1)] = 2
    """Windows side by side."""
    num_steps: Annotated[int, Interval(ge=1)] = 4
    """Time steps of a window."""

    def starts(self, bounds):
        """The starts of the windows."""
        return np.concatenate(
            [np.arange(a, b - self.num_steps + 1, self.num_steps) for a, b in itertools.pairwise(bounds)]
        )

    def plan(self, bounds, rng):
        starts = self.starts(bounds)
        if len(starts) < self.batch_size:
            raise seqjax.Error(f"{self.batch_size} windows are needed, and {len(starts)} found")
        return self.batches(starts[: len(starts) // self.batch_size * self.batch_size])

    def batches(self, starts: Any) -> Plan:
        starts = starts.reshape(-1, self.batch_size)
        scored = np.broadcast_to(np.array([0, self.num_steps], np.int32), (*starts.shape, 2))
        return Plan(starts, scored, np.ones(starts.shape, bool))


@wrong("sampler", "plan")
class ChangesTheBounds(Base):
    """It writes into the bounds that it is given."""

    def plan(self, bounds, rng):
        bounds[1:] = 0
        return super().plan(bounds, rng)


@wrong("sampler", "visits of a target")
class RangesBackwards(Base):
    """Its ranges of scored steps end before they start, so that they are empty."""

    def batches(self, starts):
        plan = super().batches(starts)
        return plan._replace(scored=plan.scored[..., ::-1])


@wrong("sampler", "visits of a target")
class MostVisitsInWords(Base):
    """Its limit is no number."""

    most_visits = "one"


@wrong("sampler", "plan")
class KnowsNoDocuments(Base):
    """Its windows cross the bounds of documents."""

    def starts(self, bounds):
        return np.arange(0, bounds[-1] - self.num_steps + 1, self.num_steps - 1)


@wrong("sampler", "same seed, same plan")
class GlobalRandomness(Base):
    """It draws from the generator of numpy's module."""

    def starts(self, bounds):
        return np.random.permutation(super().starts(bounds))


@wrong("sampler", "other sizes", "rows continue", "visits of a target")
class AlwaysTwoRows(Base):
    """It does not read `batch_size`."""

    def batches(self, starts):
        return Base(2, self.num_steps).batches(starts[: len(starts) // 2 * 2])


@wrong("sampler", "rows continue")
class NeverResets(Base):
    """Rows are carried from anywhere to anywhere."""

    def batches(self, starts):
        plan = super().batches(starts)
        reset = np.zeros_like(plan.reset)
        reset[0] = True
        return plan._replace(reset=reset)


@wrong("sampler", "rows continue")
class FirstBatchNotReset(Base):
    """An epoch starts with the state that the epoch before has left."""

    def batches(self, starts):
        plan = super().batches(starts)
        reset = plan.reset.copy()
        reset[0] = False
        return plan._replace(reset=reset)


@wrong("sampler", "epochs have equal length")
class AnotherNumberOfBatches(Base):
    """Epochs have different lengths."""

    def plan(self, bounds, rng):
        plan, fewer = super().plan(bounds, rng), int(rng.integers(3))
        return Plan(*(a[: max(1, len(a) - fewer)] for a in plan))


@wrong("sampler", "visits of a target")
class MoreOftenThanItSays(Base):
    """Its windows overlap."""

    most_visits: ClassVar = 1

    def starts(self, bounds):
        return np.repeat(super().starts(bounds), 2)


@wrong("sampler", "documents that are too short")
class FailsOnShortDocuments(Base):
    """It does not say that documents are too short."""

    def plan(self, bounds, rng):
        rng.integers(bounds[-1] // self.num_steps)  # there is no number below 0
        return super().plan(bounds, rng)

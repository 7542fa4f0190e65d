"""Samplers that are wrong. `rejected_by` names the check that must find it."""

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Interval

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


@seqjax.register("sampler", "changes-the-bounds")
@dataclass(frozen=True)
class ChangesTheBounds(Base):
    """It writes into the bounds that it is given."""

    rejected_by: ClassVar = {"plan"}

    def plan(self, bounds, rng):
        bounds[1:] = 0
        return super().plan(bounds, rng)


@seqjax.register("sampler", "ranges-backwards")
@dataclass(frozen=True)
class RangesBackwards(Base):
    """Its ranges of scored steps end before they start, so that they are empty."""

    rejected_by: ClassVar = {"visits of a target"}

    def batches(self, starts):
        plan = super().batches(starts)
        return plan._replace(scored=plan.scored[..., ::-1])


@seqjax.register("sampler", "most-visits-in-words")
@dataclass(frozen=True)
class MostVisitsInWords(Base):
    """Its limit is no number."""

    rejected_by: ClassVar = {"visits of a target"}
    most_visits = "one"


@seqjax.register("sampler", "knows-no-documents")
@dataclass(frozen=True)
class KnowsNoDocuments(Base):
    """Its windows cross the bounds of documents."""

    rejected_by: ClassVar = {"plan"}

    def starts(self, bounds):
        return np.arange(0, bounds[-1] - self.num_steps + 1, self.num_steps - 1)


@seqjax.register("sampler", "past-the-end")
@dataclass(frozen=True)
class PastTheEnd(Base):
    """Its last window goes on after the end of the stream."""

    rejected_by: ClassVar = {"plan"}

    def starts(self, bounds):
        return np.append(super().starts(bounds)[1:], [bounds[-1] - 1])


@seqjax.register("sampler", "returns-the-starts")
@dataclass(frozen=True)
class ReturnsTheStarts(Base):
    """It returns an array in place of a plan."""

    rejected_by: ClassVar = {"plan"}

    def plan(self, bounds, rng):
        return super().plan(bounds, rng).starts


@seqjax.register("sampler", "global-randomness")
@dataclass(frozen=True)
class GlobalRandomness(Base):
    """It draws from the generator of numpy's module."""

    rejected_by: ClassVar = {"same seed, same plan"}

    def starts(self, bounds):
        return np.random.permutation(super().starts(bounds))


@seqjax.register("sampler", "always-two-rows")
@dataclass(frozen=True)
class AlwaysTwoRows(Base):
    """It does not read `batch_size`."""

    rejected_by: ClassVar = {"other sizes", "rows continue", "visits of a target"}

    def batches(self, starts):
        starts = starts[: len(starts) // 2 * 2].reshape(-1, 2)
        scored = np.broadcast_to(np.array([0, self.num_steps], np.int32), (*starts.shape, 2))
        return Plan(starts, scored, np.ones(starts.shape, bool))


@seqjax.register("sampler", "never-resets")
@dataclass(frozen=True)
class NeverResets(Base):
    """Rows are carried from anywhere to anywhere."""

    rejected_by: ClassVar = {"rows continue"}

    def batches(self, starts):
        plan = super().batches(starts)
        reset = np.zeros_like(plan.reset)
        reset[0] = True
        return plan._replace(reset=reset)


@seqjax.register("sampler", "first-batch-not-reset")
@dataclass(frozen=True)
class FirstBatchNotReset(Base):
    """An epoch starts with the state that the epoch before has left."""

    rejected_by: ClassVar = {"rows continue"}

    def batches(self, starts):
        plan = super().batches(starts)
        reset = plan.reset.copy()
        reset[0] = False
        return plan._replace(reset=reset)


@seqjax.register("sampler", "another-number-of-batches")
@dataclass(frozen=True)
class AnotherNumberOfBatches(Base):
    """Epochs have different lengths."""

    rejected_by: ClassVar = {"epochs have equal length"}

    def plan(self, bounds, rng):
        plan, fewer = super().plan(bounds, rng), int(rng.integers(3))
        return Plan(*(a[: max(1, len(a) - fewer)] for a in plan))


@seqjax.register("sampler", "more-often-than-it-says")
@dataclass(frozen=True)
class MoreOftenThanItSays(Base):
    """Its windows overlap."""

    rejected_by: ClassVar = {"visits of a target"}
    most_visits: ClassVar = 1

    def starts(self, bounds):
        return np.repeat(super().starts(bounds), 2)


@seqjax.register("sampler", "nothing-scored")
@dataclass(frozen=True)
class NothingScored(Base):
    """No step of its windows is scored."""

    rejected_by: ClassVar = {"visits of a target"}

    def batches(self, starts):
        plan = super().batches(starts)
        return plan._replace(scored=np.zeros_like(plan.scored))


@seqjax.register("sampler", "fails-on-short-documents")
@dataclass(frozen=True)
class FailsOnShortDocuments(Base):
    """It does not say that documents are too short."""

    rejected_by: ClassVar = {"documents that are too short"}

    def plan(self, bounds, rng):
        rng.integers(bounds[-1] // self.num_steps)  # there is no number below 0
        return super().plan(bounds, rng)

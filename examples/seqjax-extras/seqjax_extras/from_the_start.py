"""The sampler from-the-start."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

import seqjax


@seqjax.register("sampler", "from-the-start")
@dataclass(frozen=True)
class FromTheStart(seqjax.Sampler):
    """The first window of each document, or its whole if it is shorter, in random order. Every window is reset."""

    batch_size: Annotated[int, Interval(ge=1)] = 8
    """Number of windows in a batch. The last batch is filled up with windows that are not scored."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window."""

    most_visits = 1

    def plan(self, bounds, rng):
        """One window for each document that is not empty."""
        (documents,) = np.nonzero(np.diff(bounds))
        if not len(documents):
            raise seqjax.Error("sampler from-the-start: there is no document with a target")
        documents = rng.permutation(documents)
        shape = (-(-len(documents) // self.batch_size), self.batch_size)
        plan = seqjax.Plan(np.zeros(shape, np.int64), np.zeros((*shape, 2), np.int32), np.ones(shape, bool))
        plan.starts.flat[: len(documents)] = bounds[documents]
        plan.scored.reshape(-1, 2)[: len(documents), 1] = np.minimum(np.diff(bounds)[documents], self.num_steps)
        return plan

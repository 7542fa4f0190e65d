"""The dataset my-dataset."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

import seqjax


@seqjax.register("dataset", "my-dataset")
@dataclass(frozen=True)
class MyDataset(seqjax.Dataset):
    """A random walk: each step adds a normal number with mean 0 and standard deviation `scale`."""

    num_steps: Annotated[int, Interval(ge=2)] = 2_000
    """The number of time steps."""
    scale: Annotated[float, Interval(gt=0)] = 0.1
    """The standard deviation of a step."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """The seed of the steps."""

    of_values = True

    def load(self):
        """The walk, float64[num_steps, 1]; a Text or Pairs would do as well."""
        steps = np.random.default_rng(self.seed).normal(0, self.scale, self.num_steps)
        return seqjax.Series(np.cumsum(steps), source="my-dataset")

"""The Lorenz system, of which only x is seen."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, register

from ._series import normalised


@register("dataset", "lorenz")
@dataclass(frozen=True)
class Lorenz(Dataset):
    """x of the chaotic system of Lorenz (1963), normalised to mean 0 and variance 1.

        dx/dt = 10 (y - x),   dy/dt = x (28 - z) - y,   dz/dt = x y - 8/3 z

    by Euler steps of .01 in float64. Every second one is kept, and the first 100 of the kept ones are dropped. Each
    series is a document, and starts from (1, 1, 1) + .1 ε with ε ~ N(0, 1). The past of x determines its next value, so
    that the floor is 0. The chance level is 1, the variance.
    """

    cites = ("lorenz1963deterministic",)
    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 32}
    of_values = True
    floor: ClassVar = 0.0
    chance: ClassVar = 1.0

    num_steps: Annotated[int, Interval(ge=10)] = 20_000
    """Length of a series."""
    num_series: Annotated[int, Interval(ge=1)] = 1
    """Number of series."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the starts."""

    def load(self):
        """The series, float64[num_series * num_steps, 1]."""
        state = np.ones((self.num_series, 3)) + 0.1 * np.random.default_rng(self.seed).normal(size=(self.num_series, 3))
        xs = []
        for index in range(2 * (self.num_steps + 100)):
            if index % 2 == 0:
                xs.append(state[:, 0])
            x, y, z = state.T
            state = state + 0.01 * np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], 1)
        return normalised(np.stack(xs)[100:], "lorenz")

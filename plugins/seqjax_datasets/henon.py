"""The Hénon map, of which only x is seen."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, register

from ._series import normalised


@register("dataset", "henon")
@dataclass(frozen=True)
class Henon(Dataset):
    """x of the chaotic map of Hénon (1976), normalised to mean 0 and variance 1.

        x_{t+1} = 1 - 1.4 x_t² + y_t,   y_{t+1} = .3 x_t

    Series k starts from x_0 = .1 + .01 k + 1e-6 `seed` and y_0 = 0, and is a document. It is computed in float64 by
    additions and multiplications in the order that is written here, so that all machines compute the same trajectory.
    x_t follows from the two values before it, so that the floor is 0. The chance level is 1, the variance.
    """

    cites = ("henon1976two",)
    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 32}
    of_values = True
    floor: ClassVar = 0.0
    chance: ClassVar = 1.0

    num_steps: Annotated[int, Interval(ge=10)] = 20_000
    """Length of a series."""
    num_series: Annotated[int, Interval(ge=1, le=100)] = 1
    """Number of series."""
    seed: Annotated[int, Interval(ge=0, lt=10_000)] = 0
    """Changes the starts."""

    def load(self):
        """The series, float64[num_series * num_steps, 1]."""
        x = 0.1 + 0.01 * np.arange(self.num_series) + 1e-6 * self.seed
        y, xs = 0.0 * x, []
        for _ in range(self.num_steps):
            xs.append(x)
            x, y = 1 - 1.4 * (x * x) + y, 0.3 * x
        return normalised(np.stack(xs), "henon")

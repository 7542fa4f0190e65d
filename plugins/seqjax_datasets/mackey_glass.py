"""The Mackey-Glass equation: the change of x depends on a value of x long ago."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, register

from ._series import normalised

SUBSTEPS, DROPPED = 10, 200
"""Euler steps in a unit of time, and the units that are dropped at the start."""


@register("dataset", "mackey-glass")
@dataclass(frozen=True)
class MackeyGlass(Dataset):
    """The chaotic series of Mackey & Glass (1977), normalised to mean 0 and variance 1.

        dx/dt = .2 x(t - `delay`) / (1 + x(t - `delay`)^10) - .1 x(t)

    by Euler steps of .1 in float64. Every tenth is kept, and the first 200 of the kept ones are dropped. Each series is
    a document, and starts from a constant past, drawn from U(.5, 1.5). The tenth power is three squarings and a
    product, so that all machines compute the same trajectory. The past of x determines its next value, so that the
    floor is 0. The chance level is 1, the variance.
    """

    cites = ("mackey1977oscillation",)
    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 32}
    of_values = True
    floor: ClassVar = 0.0
    chance: ClassVar = 1.0

    num_steps: Annotated[int, Interval(ge=10)] = 10_000
    """Length of a series."""
    num_series: Annotated[int, Interval(ge=1)] = 1
    """Number of series."""
    delay: Annotated[int, Interval(ge=5)] = 17
    """The delay of the equation. The series is chaotic from about 17 on. Below 5 it would go to a constant."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the starts."""

    def load(self):
        """The series, float64[num_series * num_steps, 1]."""
        lag, count = self.delay * SUBSTEPS, SUBSTEPS * (self.num_steps + DROPPED)
        x_TN = np.empty((lag + count, self.num_series))
        x_TN[: lag + 1] = np.random.default_rng(self.seed).uniform(0.5, 1.5, self.num_series)
        for t in range(lag, lag + count - 1):
            past, now = x_TN[t - lag], x_TN[t]
            square = past * past
            eighth = square * square * (square * square)
            x_TN[t + 1] = now + 1 / SUBSTEPS * (0.2 * past / (1 + eighth * square) - 0.1 * now)
        return normalised(x_TN[lag::SUBSTEPS][DROPPED:], "mackey-glass")

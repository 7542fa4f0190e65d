"""A sine wave with noise."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Series, register


@register("dataset", "noisy-sine")
@dataclass(frozen=True)
class NoisySine(Dataset):
    """x_t = sin(ω t) + ε_t with ε_t ~ N(0, σ²), t = 1, ..., num_steps: a series of one column."""

    num_steps: Annotated[int, Interval(ge=1)] = 1000
    """Length of the series."""
    noise: Annotated[float, Interval(ge=0)] = 0.2
    """σ, the standard deviation of the noise."""
    frequency: float = 0.01
    """ω, in radians a step."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the noise."""

    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 10}
    of_values = True

    def load(self):
        """The series, float64[num_steps, 1]."""
        t = np.arange(1, self.num_steps + 1)
        noise = np.random.default_rng(self.seed).normal(size=self.num_steps)
        return Series(np.sin(self.frequency * t) + self.noise * noise, ("x",), "noisy-sine")

    @property
    def floor(self):
        """σ², since a sine can be predicted exactly, and the noise cannot."""
        return self.noise**2

    @property
    def chance(self):
        """The variance of the sine over the series, and σ²."""
        return float(np.var(np.sin(self.frequency * np.arange(1, self.num_steps + 1)))) + self.floor

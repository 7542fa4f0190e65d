"""The dataset lorenz."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

import seqjax


@seqjax.register("dataset", "lorenz")
@dataclass(frozen=True)
class Lorenz(seqjax.Dataset):
    """The Lorenz system by Heun's method: x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8/3 z."""

    num_steps: Annotated[int, Interval(ge=2)] = 5_000
    """The number of time steps."""
    dt: Annotated[float, Interval(gt=0, le=0.05)] = 0.02
    """The length of a time step."""

    of_values = True

    def load(self):
        """x, y and z divided by 20, float64[num_steps, 3]."""
        points = [np.array([1.0, 1.0, 25.0])]
        for _ in range(self.num_steps - 1):
            first = slope(points[-1])
            second = slope(points[-1] + self.dt * first)
            points.append(points[-1] + self.dt * (first + second) / 2)
        return seqjax.Series(np.stack(points) / 20, names=("x", "y", "z"), source="lorenz")


def slope(point):
    """The derivative of x, y and z by time."""
    x, y, z = point
    return np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

"""NARMA: a nonlinear filter with a memory of several steps."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Error, Pairs, Spec, Values, register

LARGEST = 1e3
"""A larger output means that the filter diverges: usual ones are below 1."""


@register("dataset", "narma")
@dataclass(frozen=True)
class NARMA(Dataset):
    """A nonlinear moving average of random inputs (Atiya & Parlos 2000), normalised to mean 0 and variance 1.

        y_{t+1} = .3 y_t + .05 y_t Σ_{i < order} y_{t-i} + 1.5 u_{t-order+1} u_t + .1,   u_t ~ U(0, .5)

    from y = 0 and u = 0 before the start, in float64. The input of a step is u_t, and the target y_{t+1}, which the
    inputs determine, so that the floor is 0. The chance level is 1, the variance.
    """

    cites = ("atiya2000new",)
    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 32}
    of_values = True
    floor: ClassVar = 0.0
    chance: ClassVar = 1.0

    num_steps: Annotated[int, Interval(ge=10)] = 20_000
    """Length of the stream."""
    order: Annotated[int, Interval(ge=1)] = 10
    """How many steps back the inputs and outputs reach. With 10 the filter diverges for one seed in ten, and with more
    for almost all seeds."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the inputs."""

    def load(self):
        """Pairs of values of dim 1.

        Raises:
            Error: the filter diverged, as it may with a large order.
        """
        n, k = self.num_steps, self.order
        drawn = np.random.default_rng(self.seed).uniform(0, 0.5, n)
        u, y = [0.0] * k + drawn.tolist(), [0.0] * (k + 1)
        for t in range(k, k + n):
            # fsum rounds once, so that all machines compute the same sum.
            y.append(0.3 * y[t] + 0.05 * y[t] * math.fsum(y[t - k + 1 : t + 1]) + 1.5 * u[t - k + 1] * u[t] + 0.1)
            if not abs(y[t + 1]) < LARGEST:
                raise Error(
                    f"narma: the filter of order {k} diverges with seed = {self.seed}; choose another seed, or an "
                    "order of at most 10"
                )
        targets = np.array(y[k + 1 :])
        targets = (targets - targets.mean()) / targets.std()
        return Pairs(drawn[:, None], targets[:, None], spec=Spec(Values(1)), source="narma")

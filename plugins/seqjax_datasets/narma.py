"""NARMA: a nonlinear filter with a memory of several steps."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Error, Pairs, Spec, Values, register

LARGEST = 1e3
"""A larger output means that the filter diverges: usual ones are below 1."""
AGAIN, MOST_TIMES = 200, 1000
"""How many inputs are drawn again if the filter diverges, and how often at most."""


@register("dataset", "narma")
@dataclass(frozen=True)
class NARMA(Dataset):
    """A nonlinear moving average of random inputs (Atiya & Parlos 2000), normalised to mean 0 and variance 1.

        y_{t+1} = .3 y_t + .05 y_t Σ_{i < order} y_{t-i} + 1.5 u_{t-order+1} u_t + .1,   u_t ~ U(0, .5)

    from y = 0 and u = 0 before the start, in float64. The input of a step is u_t, and the target y_{t+1}, which the
    inputs determine, so that the floor is 0. The chance level is 1, the variance. With order 10 the filter diverges
    about once in 200,000 steps; the last 200 inputs are then drawn again.
    """

    cites = ("atiya2000new",)
    sampler_fields: ClassVar = {"batch_size": 8, "num_steps": 32}
    of_values = True
    floor: ClassVar = 0.0
    chance: ClassVar = 1.0

    num_steps: Annotated[int, Interval(ge=10)] = 20_000
    """Length of the stream."""
    order: Annotated[int, Interval(ge=1)] = 10
    """How many steps back the inputs and outputs reach. With more than 10 the filter diverges too often."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the inputs."""

    def load(self):
        """Pairs of values of dim 1.

        Raises:
            Error: the filter diverges too often, as it may with a large order.
        """
        n, k = self.num_steps, self.order
        rng = np.random.default_rng(self.seed)
        u, y, times = [0.0] * k + rng.uniform(0, 0.5, n).tolist(), [0.0] * (k + 1), 0
        while (t := len(y) - 1) < k + n:
            # fsum rounds once, so that all machines compute the same sum.
            y.append(0.3 * y[t] + 0.05 * y[t] * math.fsum(y[t - k + 1 : t + 1]) + 1.5 * u[t - k + 1] * u[t] + 0.1)
            if not abs(y[t + 1]) < LARGEST:
                # The outputs grow from their usual size to this one within a few tens of steps.
                start, times = max(k, t - AGAIN), times + 1
                u[start : t + 1] = rng.uniform(0, 0.5, t + 1 - start).tolist()
                del y[start + 1 :]
            if times > MOST_TIMES:
                raise Error(f"narma: the filter of order {k} diverges too often; choose an order of at most 10")
        inputs, targets = np.array(u[k:]), np.array(y[k + 1 :])
        targets = (targets - targets.mean()) / targets.std()
        return Pairs(inputs[:, None], targets[:, None], spec=Spec(Values(1)), source="narma")

"""The add task: targets that depend on two earlier inputs."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Tokens, register

from ._levels import log_loss

Lag = Annotated[int, Interval(ge=0)]


@register("dataset", "add")
@dataclass(frozen=True)
class Add(Dataset):
    """Bits whose probabilities depend on two earlier inputs, so that the loss shows which lags a model has learned.

        x_t ~ Bernoulli(1/2),   P(y_t = 1) = 1/2 + x_{t-t1}/2 - x_{t-t2}/4

    The target is the bit y_t, and x = 0 before the start. The lowest loss of a model that has learned neither lag is
    .6616 nats; it is .6277 with the lag t2 alone, .5192 with t1 alone, and .4545 with both.
    """

    num_steps: Annotated[int, Interval(ge=1)] = 100_000
    """Length of the stream."""
    t1: Lag = 4
    """The lag that raises the probability of a 1."""
    t2: Lag = 6
    """The lag that lowers the probability of a 1."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the inputs and targets."""

    def load(self):
        """Pairs of bits."""
        rng = np.random.default_rng(self.seed)
        x = rng.integers(0, 2, self.num_steps)
        before = np.concatenate([np.zeros(max(self.t1, self.t2), x.dtype), x])
        x_t1, x_t2 = (before[len(before) - self.num_steps - lag :][: self.num_steps] for lag in (self.t1, self.t2))
        y = rng.random(self.num_steps) < 0.5 + 0.5 * x_t1 - 0.25 * x_t2
        return Pairs(x, y.astype(np.int32), spec=Spec(Tokens(2)), source="add")

    @property
    def floor(self):
        """The mean entropy of y_t over the inputs t1 and t2 steps before."""
        pairs = [(0, 0), (1, 1)] if self.t1 == self.t2 else [(0, 0), (0, 1), (1, 0), (1, 1)]
        return sum(log_loss(0.5 + 0.5 * x_t1 - 0.25 * x_t2) for x_t1, x_t2 in pairs) / len(pairs)

    @property
    def chance(self):
        """The entropy of a bit that is 1 with probability .625, the mean."""
        return log_loss(0.625)

"""The flip-flop task: remember the sign of the last pulse of each channel."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Values, register


@register("dataset", "flip-flop")
@dataclass(frozen=True)
class FlipFlop(Dataset):
    """Pulses of ±1 on several channels; the target is the last pulse of each channel (Sussillo & Barak 2013).

        x_t[c] = ±1 with probability `rate` / 2 each, and otherwise 0,   y_t[c] = the last x_s[c] ≠ 0, s <= t

    Before the first pulse of a channel, its target is 0. The floor is 0. The best constant prediction is 0, whose mean
    squared error is the expected share of steps after the first pulse.
    """

    cites = ("sussillo2013opening",)
    of_values = True
    floor: ClassVar = 0.0

    num_steps: Annotated[int, Interval(ge=1)] = 100_000
    """Length of the stream."""
    channels: Annotated[int, Interval(ge=1)] = 3
    """Number of channels."""
    rate: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """The probability of a pulse at each step in each channel."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the pulses."""

    def load(self):
        """Pairs of values of dim `channels`."""
        rng = np.random.default_rng(self.seed)
        shape = (self.num_steps, self.channels)
        x = np.where(rng.random(shape) < self.rate, rng.choice([-1.0, 1.0], shape), 0.0)
        # The step of the last pulse, of each step and channel; step 0 if there is none, where x is 0 then.
        last = np.maximum.accumulate(np.where(x != 0, np.arange(self.num_steps)[:, None], 0), 0)
        y = np.take_along_axis(x, last, 0)
        return Pairs(x, y, spec=Spec(Values(self.channels)), source="flip-flop")

    @property
    def chance(self):
        """The expected share of steps after the first pulse, which are ±1: the mean of 1 - (1 - rate)^t."""
        missing = (1 - self.rate) * (1 - (1 - self.rate) ** self.num_steps) / self.rate
        return 1 - missing / self.num_steps

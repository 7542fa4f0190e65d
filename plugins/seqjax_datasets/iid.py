"""Targets that are independent of everything, from which nothing can be learned."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Tokens, register

from ._levels import log_loss


@register("dataset", "iid")
@dataclass(frozen=True)
class IID(Dataset):
    """Bits that depend on nothing, beside random inputs. It is a control: no model can be better than another.

        x_t ~ Bernoulli(1/2),   y_t ~ Bernoulli(probability)

    The floor and the chance level are both the entropy of y_t.
    """

    num_steps: Annotated[int, Interval(ge=1)] = 100_000
    """Length of the stream."""
    probability: Annotated[float, Interval(gt=0, lt=1)] = 0.625
    """P(y_t = 1)."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the inputs and targets."""

    def load(self):
        """Pairs of bits."""
        rng = np.random.default_rng(self.seed)
        x = rng.integers(0, 2, self.num_steps)
        y = (rng.random(self.num_steps) < self.probability).astype(np.int32)
        return Pairs(x, y, spec=Spec(Tokens(2)), source="iid")

    @property
    def floor(self):
        """The entropy of y_t."""
        return log_loss(self.probability)

    chance = floor

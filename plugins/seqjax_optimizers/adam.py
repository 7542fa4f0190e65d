"""The optimizer Adam."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

from seqjax import register
from seqjax.training import ScheduledOptimizer


@register("optimizer", "adam")
@dataclass(frozen=True)
class Adam(ScheduledOptimizer):
    """Adam: a running mean of the gradient, divided by the root of a running mean of its square (Kingma & Ba 2015)."""

    cites = ("kingma2015adam",)

    learning_rate: Annotated[float, Interval(gt=0)] = 0.001
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay of the running mean of the gradient."""
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.999
    """Decay of the running mean of its square."""
    eps: Annotated[float, Interval(gt=0)] = 1e-8
    """Added to the denominator."""

    def build(self, num_updates):
        """Clips the gradient, and then does the step."""
        return self.chain(optax.adam, num_updates, b1=self.b1, b2=self.b2, eps=self.eps)

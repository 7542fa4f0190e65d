"""The optimizer SGD."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

from seqjax import register
from seqjax.training import ScheduledOptimizer


@register("optimizer", "sgd")
@dataclass(frozen=True)
class SGD(ScheduledOptimizer):
    """Stochastic gradient descent, w ← w - η g, where the global norm of g may be clipped."""

    learning_rate: Annotated[float, Interval(gt=0)] = 0.1

    def build(self, num_updates):
        """Clips the gradient, and then does the step."""
        return self.chain(optax.sgd, num_updates)

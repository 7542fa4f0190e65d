"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

from seqjax import Optimizer, register

from ._clip import clipped


@register("optimizer", "sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, w ← w - η g, with the global norm of g clipped."""

    learning_rate: Annotated[float, Interval(gt=0)] = 0.1
    """η, the step size."""
    clip_norm: Annotated[float, Interval(gt=0)] | None = None
    """Largest global norm of the gradient; a longer one is scaled down to it. None: no clipping."""

    def build(self, num_updates):
        """Clipping, then the step."""
        return clipped(optax.sgd, self.clip_norm, learning_rate=self.learning_rate)

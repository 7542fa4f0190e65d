"""Adam."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

from seqjax import Optimizer, register

from ._clip import clipped

Decay = Annotated[float, Interval(ge=0, lt=1)]


@register("optimizer", "adam")
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square (Kingma & Ba 2015)."""

    learning_rate: Annotated[float, Interval(gt=0)] = 0.001
    """Step size."""
    b1: Decay = 0.9
    """Decay of the running mean of the gradient."""
    b2: Decay = 0.999
    """Decay of the running mean of its square."""
    eps: Annotated[float, Interval(gt=0)] = 1e-8
    """Added to the denominator."""
    clip_norm: Annotated[float, Interval(gt=0)] | None = None
    """Largest global norm of the gradient; a longer one is scaled down to it. None: no clipping."""

    def build(self, num_updates):
        """Clipping, then the step."""
        return clipped(
            optax.adam, self.clip_norm, learning_rate=self.learning_rate, b1=self.b1, b2=self.b2, eps=self.eps
        )

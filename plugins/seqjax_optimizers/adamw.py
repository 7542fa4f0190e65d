"""The optimizer AdamW: Adam with weight decay."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

from seqjax import register
from seqjax.training import ScheduledOptimizer


@register("optimizer", "adamw")
@dataclass(frozen=True)
class AdamW(ScheduledOptimizer):
    """Adam with a separate decay w ← w - η λ w of all parameters, biases too (Loshchilov & Hutter 2019).

    η is the learning rate of the update, so that the decay follows the schedule. Clipping does not change the decay.
    """

    cites = ("loshchilov2019decoupled",)

    learning_rate: Annotated[float, Interval(gt=0)] = 0.001
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Decay of the running mean of the gradient."""
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.999
    """Decay of the running mean of its square."""
    eps: Annotated[float, Interval(gt=0)] = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Interval(ge=0)] = 0.01
    """λ, the strength of the decay."""

    def build(self, num_updates):
        """Clips the gradient, and then does the step."""
        fields = {"b1": self.b1, "b2": self.b2, "eps": self.eps, "weight_decay": self.weight_decay}
        return self.chain(optax.adamw, num_updates, **fields)

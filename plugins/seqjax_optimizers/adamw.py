"""Adam with weight decay."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

from seqjax import register

from ._scheduled import Decay, Positive, Scheduled


@register("optimizer", "adamw")
@dataclass(frozen=True)
class AdamW(Scheduled):
    """Adam, and apart from it w ← w - η λ w for every parameter, biases too (Loshchilov & Hutter 2019).

    η is the learning rate of the update, so that the decay follows the schedule; clipping does not touch it.
    """

    learning_rate: Positive = 0.001
    b1: Decay = 0.9
    """Decay of the running mean of the gradient."""
    b2: Decay = 0.999
    """Decay of the running mean of its square."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: Annotated[float, Interval(ge=0)] = 0.01
    """λ."""

    def build(self, num_updates):
        """Clipping, then the step."""
        fields = {"b1": self.b1, "b2": self.b2, "eps": self.eps, "weight_decay": self.weight_decay}
        return self.chain(optax.adamw, num_updates, **fields)

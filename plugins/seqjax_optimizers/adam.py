"""Adam."""

from dataclasses import dataclass

import optax

from seqjax import register

from ._scheduled import Decay, Positive, Scheduled


@register("optimizer", "adam")
@dataclass(frozen=True)
class Adam(Scheduled):
    """Adam: steps scaled by running means of the gradient and of its square (Kingma & Ba 2015)."""

    learning_rate: Positive = 0.001
    b1: Decay = 0.9
    """Decay of the running mean of the gradient."""
    b2: Decay = 0.999
    """Decay of the running mean of its square."""
    eps: Positive = 1e-8
    """Added to the denominator."""

    def build(self, num_updates):
        """Clipping, then the step."""
        return self.chain(optax.adam, num_updates, b1=self.b1, b2=self.b2, eps=self.eps)

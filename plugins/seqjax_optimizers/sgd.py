"""Stochastic gradient descent."""

from dataclasses import dataclass

import optax

from seqjax import register

from ._scheduled import Positive, Scheduled


@register("optimizer", "sgd")
@dataclass(frozen=True)
class SGD(Scheduled):
    """Stochastic gradient descent, w ← w - η g, with the global norm of g clipped."""

    learning_rate: Positive = 0.1

    def build(self, num_updates):
        """Clipping, then the step."""
        return self.chain(optax.sgd, num_updates)

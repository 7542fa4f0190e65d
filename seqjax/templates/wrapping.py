"""The gradient strategy my-gradient."""

from dataclasses import dataclass
from typing import Annotated

import jax
from annotated_types import Interval

import seqjax
from seqjax.gradients import Full


@seqjax.register("gradient", "my-gradient")
@dataclass(frozen=True)
class MyGradient(seqjax.Wrapping):
    """Another strategy, whose gradient is multiplied by a constant."""

    strategy: seqjax.Gradient = Full()
    """The strategy; all that is not defined here is taken from it."""
    factor: Annotated[float, Interval(gt=0)] = 0.5
    """The constant."""

    claim = "biased"

    def estimate(self, *args):
        """The estimate of the strategy, with another gradient."""
        estimate = super().estimate(*args)
        return estimate._replace(grads=jax.tree.map(lambda grad: self.factor * grad, estimate.grads))

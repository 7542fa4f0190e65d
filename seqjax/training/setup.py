"""`TrainingSetup`: how a problem is trained, in one value."""

from dataclasses import dataclass

import optax

from seqjax.data.sampler import Sampler, check_fields
from seqjax.errors import Error, check_whole
from seqjax.gradients.contract.gradient import Gradient, check_strategy
from seqjax.gradients.steps.precision import Precision, check_precision
from seqjax.training.optimizer import Optimizer


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """How a problem is trained on a stream."""

    sampler: Sampler
    """Chooses the windows of an epoch."""
    gradient: Gradient
    """The gradient strategy."""
    optimizer: Optimizer | optax.GradientTransformation
    """An optimizer plugin, or any optax transformation."""
    epochs: int
    """The number of epochs, counted from update 0."""
    seed: int = 0
    """Seed of the parameters, of the sampler and of the gradient strategy."""
    devices: int | None = None
    """The number of devices over which rows are sharded; None: the largest number that divides the batch."""
    precision: Precision = "float32"
    """The precision in which steps are computed; strategies with `rounds = False` compute in float32 always."""

    def __post_init__(self) -> None:
        check_strategy("training", self.gradient)
        check_precision(self.precision)
        check_whole(epochs=(self.epochs, 1), seed=(self.seed, 0))
        if not isinstance(self.sampler, Sampler):
            raise Error(f"training takes an instance of a sampler, such as Random(), not {self.sampler!r:.80}")
        check_fields(self.sampler)
        if not isinstance(self.optimizer, Optimizer | optax.GradientTransformation):
            raise Error(
                "training takes an instance of an optimizer, such as Adam() or optax.adam(0.001), not "
                f"{self.optimizer!r:.80}"
            )

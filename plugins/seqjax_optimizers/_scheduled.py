"""What the optimizers here share: clipping, and a learning rate that may change from update to update."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from annotated_types import Interval

from seqjax import Optimizer

Positive = Annotated[float, Interval(gt=0)]
Decay = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True)
class Scheduled(Optimizer):
    """An optimizer with clipping and a schedule.

    The learning rate of update n = 0, ..., N - 1 is, with W = warmup · N,

    η (n + 1) / (W + 1)                      where n < W
    η                                        after that, `constant`
    η (1 + cos(π (n - W) / (N - W))) / 2     after that, `cosine` (Loshchilov & Hutter 2017, arXiv:1608.03983).
    """

    learning_rate: Positive
    """η, the step size; where it changes, the largest."""
    clip_norm: Positive | None = None
    """Largest global norm of the gradient; a longer one is scaled down to it. None: no clipping."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the learning rate stays as it is, or falls along half a cosine to 0 at the end of the training."""
    warmup: Decay = 0.0
    """Share of the updates over which the learning rate first rises to η, linearly."""

    def chain(self, make: Callable, num_updates: int, **fields: Any) -> optax.GradientTransformation:
        """Clipping, then `make(learning_rate, **fields)`; its numbers can be read from the optimizer's state."""
        steady = self.schedule == "constant" and isinstance(self.warmup, float) and self.warmup == 0
        rate = self.learning_rate if steady else self._rate(num_updates)
        tx = optax.inject_hyperparams(make)(learning_rate=rate, **fields)
        return tx if self.clip_norm is None else optax.chain(optax.clip_by_global_norm(self.clip_norm), tx)

    def _rate(self, num_updates: int) -> Callable[[jax.Array], jax.Array]:
        """The learning rate as a function of n."""

        def rate(count):
            n, W = jnp.asarray(count, float), self.warmup * num_updates
            past = jnp.clip((n - W) / (num_updates - W), 0, 1)
            after = (1 + jnp.cos(jnp.pi * past)) / 2 if self.schedule == "cosine" else 1.0
            return self.learning_rate * jnp.where(n < W, (n + 1) / (W + 1), after)

        return rate

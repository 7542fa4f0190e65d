"""A plugin that starts a backend of JAX when its file is imported."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import optax

import seqjax

RATE = jnp.full((), 0.1)


@seqjax.register("optimizer", "starts-a-backend")
@dataclass(frozen=True)
class StartsABackend(seqjax.Optimizer):
    """Its file computes an array."""

    rejected_by: ClassVar = {"import starts no backend"}

    def build(self, num_updates):
        return optax.inject_hyperparams(optax.sgd)(learning_rate=float(RATE))

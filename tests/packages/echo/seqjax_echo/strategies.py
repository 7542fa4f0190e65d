import os
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp

import seqjax

if "ECHO_MARKER" in os.environ:
    Path(os.environ["ECHO_MARKER"]).touch()  # tells the tests that this module was imported


@seqjax.register("gradient", "echo")
@dataclass(frozen=True)
class Echo(seqjax.WeightedEdges):
    """Sends the gradient back weaker and weaker."""

    claim = "biased"

    decay: float = 0.5
    """What is left of it after a step."""

    def edge_weights(self, noise, memory, num_steps):
        return jnp.full(num_steps, self.decay), memory


@seqjax.register("gradient", "reexported")
@dataclass(frozen=True)
class Reexported(Echo):
    """The entry point names the package, the class is in a module of it."""

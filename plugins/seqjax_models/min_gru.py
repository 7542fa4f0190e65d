"""The minimal gated recurrent unit."""

from dataclasses import dataclass

import jax.numpy as jnp

from seqjax import Elementwise, register
from seqjax.models import sigmoid


@register("model", "min-gru")
@dataclass(frozen=True)
class MinGRU(Elementwise):
    """Gated recurrent units whose gates read the input alone (Feng et al. 2024, arXiv:2410.01201).

        z_t = σ(u_z)
        n_t = u_n, or g(u_n) with g(x) = x + 1/2 for x >= 0, else σ(x)
        h_t = (1 - z_t) h_{t-1} + z_t n_t

    The blocks of u are z, n.
    """

    cites = ("feng2024were",)

    positive: bool = False
    """Whether n is g(u_n), so that h is positive, as where the authors compute it from logarithms."""

    blocks = 2
    affine = True
    stable = True

    def cell(self, u, state):
        u_z, u_n = jnp.split(u, 2, -1)
        n = positive(u_n) if self.positive else u_n
        return self.State(state.h + sigmoid(u_z) * (n - state.h))


def positive(x):
    """x + 1/2 for x >= 0, else σ(x): positive, increasing and continuous."""
    return jnp.where(x >= 0, x + 0.5, sigmoid(x))

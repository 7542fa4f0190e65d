"""The minimal long short-term memory."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Elementwise, register

from .min_gru import positive


@register("model", "min-lstm")
@dataclass(frozen=True)
class MinLSTM(Elementwise):
    """Long short-term memory whose gates read the input alone, and add up to 1 (Feng et al. 2024, arXiv:2410.01201).

        f, i = σ(u_f), σ(u_i)
        n_t = u_n, or g(u_n) with g(x) = x + 1/2 for x >= 0, else σ(x)
        h_t = f / (f + i) h_{t-1} + i / (f + i) n_t

    The blocks of u are f, i, n.
    """

    cites = ("feng2024were",)

    positive: bool = False
    """Whether n is g(u_n), so that h is positive, as where the authors compute it from logarithms."""

    blocks = 3
    affine = True
    stable = True

    def cell(self, u, state):
        u_f, u_i, u_n = jnp.split(u, 3, -1)
        n = positive(u_n) if self.positive else u_n
        # i / (f + i) from logarithms, since both gates may underflow.
        share = jax.nn.sigmoid(jax.nn.softplus(-u_f) - jax.nn.softplus(-u_i))
        return self.State(state.h + share * (n - state.h))

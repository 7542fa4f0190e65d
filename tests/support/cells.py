"""Cells that are not built in."""

from dataclasses import dataclass

import jax.numpy as jnp

from seqjax import Cell
from seqjax.models import sigmoid


@dataclass(frozen=True)
class MGU(Cell):
    """Minimal gated unit (Zhou et al. 2016), the gate after the product."""

    blocks = 2

    def cell(self, u, v, state):
        (u_f, u_n), (v_f, v_n) = jnp.split(u, 2, -1), jnp.split(v, 2, -1)
        f = sigmoid(u_f + v_f)
        return self.State((1 - f) * state.h + f * jnp.tanh(u_n + f * v_n))

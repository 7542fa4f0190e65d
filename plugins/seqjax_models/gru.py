"""The gated recurrent unit."""

from dataclasses import dataclass

import jax.numpy as jnp

from seqjax import Cell, register
from seqjax.models import sigmoid


@register("model", "gru")
@dataclass(frozen=True)
class GRU(Cell):
    """Gated recurrent units (Cho et al. 2014), with the reset gate after the product, as in cuDNN and PyTorch.

        r = σ(u_r + v_r)
        z = σ(u_z + v_z)
        n = tanh(u_n + r v_n)
        h_t = (1 - z) n + z h_{t-1}

    The blocks of u, v and the weights are r, z, n.
    """

    blocks = 3

    def cell(self, u, v, state):
        gates = 2 * self.hidden
        r, z = jnp.split(sigmoid(u[..., :gates] + v[..., :gates]), 2, -1)
        n = jnp.tanh(u[..., gates:] + r * v[..., gates:])
        return self.State(n + z * (state.h - n))

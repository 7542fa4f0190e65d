"""The model my-model."""

from dataclasses import dataclass

import jax.numpy as jnp

import seqjax
from seqjax.models import sigmoid


@seqjax.register("model", "my-model")
@dataclass(frozen=True)
class MyModel(seqjax.Cell):
    """A recurrent network with one gate: h_t = (1 - f) h_{t-1} + f tanh(u_n + v_n), with f = σ(u_f + v_f)."""

    blocks = 2

    def cell(self, u, v, state):
        """One step of one layer; u = x W_xh + b_h and v = h W_hh have two blocks of `hidden` numbers."""
        (u_f, u_n), (v_f, v_n) = jnp.split(u, 2, -1), jnp.split(v, 2, -1)
        f = sigmoid(u_f + v_f)
        return self.State((1 - f) * state.h + f * jnp.tanh(u_n + v_n))

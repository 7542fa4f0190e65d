"""The recurrent network with tanh units."""

from dataclasses import dataclass

import jax.numpy as jnp

from seqjax import Cell, register


@register("model", "rnn")
@dataclass(frozen=True)
class RNN(Cell):
    """Recurrent network with tanh units (Elman 1990, "Finding structure in time").

    h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h)
    """

    cites = ("elman1990finding",)
    also_called = ("simple-rnn", "vanilla-rnn", "elman")

    def cell(self, u, v, state):
        return self.State(jnp.tanh(u + v))

"""Long short-term memory."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import Cell, register


class LSTMState(NamedTuple):
    """The output h and the cell state c of a layer, float[hidden] each."""

    h: jax.Array
    c: jax.Array


@register("model", "lstm")
@dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates (Gers, Schmidhuber & Cummins 2000).

        i, f, o = σ(u_i + v_i), σ(u_f + v_f), σ(u_o + v_o)
        g = tanh(u_g + v_g)
        c_t = f c_{t-1} + i g
        h_t = o tanh(c_t)

    The blocks of u, v and the weights are i, f, g, o.
    """

    cites = ("hochreiter1997long", "gers2000learning")

    forget_bias: float = 0.0
    """Initial value of the forget gates' bias."""

    blocks = 4
    State = LSTMState

    def init(self, key, spec):
        params = super().init(key, spec)
        for layer in range(self.layers):
            b_h = params[f"layer_{layer}"]["b_h"]
            params[f"layer_{layer}"]["b_h"] = b_h.at[self.hidden : 2 * self.hidden].set(self.forget_bias)
        return params

    def cell(self, u, v, state):
        # Since σ(x) = (1 + tanh(x/2)) / 2, one tanh over all blocks computes all gates, which is faster.
        scale = jnp.repeat(jnp.asarray([0.5, 0.5, 1.0, 0.5], u.dtype), self.hidden)
        i, f, g, o = jnp.split(jnp.tanh(scale * (u + v)), 4, -1)
        c = 0.5 * ((1 + f) * state.c + (1 + i) * g)
        return LSTMState(0.5 * (1 + o) * jnp.tanh(c), c)

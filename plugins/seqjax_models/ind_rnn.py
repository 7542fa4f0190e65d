"""The independently recurrent network."""

from dataclasses import dataclass

import jax

from seqjax import Elementwise, register


@register("model", "ind-rnn")
@dataclass(frozen=True)
class IndRNN(Elementwise):
    """A recurrent network in which each unit has one recurrent weight (Li et al. 2018, arXiv:1803.04831).

        h_t = relu(u_t + w h_{t-1})

    The weights w start as U(0, 1).
    """

    cites = ("li2018independently",)

    def init_cell(self, key):
        return {"w": jax.random.uniform(key, (self.hidden,))}

    def cell(self, u, state, w):
        return self.State(jax.nn.relu(u + w * state.h))

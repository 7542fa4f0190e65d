"""The network of the rules that need a leak."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval

import seqjax as sj


@dataclass(frozen=True)
class LeakyRNN(sj.Cell):
    """Leaky tanh units, as the network for which `rflo` was made (Murray 2019).

    h_t = (1 - leak) h_{t-1} + leak tanh(x_t W_xh + h_{t-1} W_hh + b_h)
    """

    leak: Annotated[float, Interval(gt=0, le=1)] = 0.3
    """The share of a state that is replaced at each step."""

    def cell(self, u, v, state):
        return self.State((1 - self.leak) * state.h + self.leak * jnp.tanh(u + v))

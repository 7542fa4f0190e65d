"""The recurrent trace unit."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from seqjax import register

from .lru import Ring, log_scale, turn


@register("model", "rtu")
@dataclass(frozen=True)
class RTU(Ring):
    """The linear recurrent trace unit (Elelimy et al. 2024, arXiv:2409.01449), whose output is not linear.

        r = exp(-exp(ν)),   g, φ = r cos exp(θ), r sin exp(θ),   n = √(1 - r²)
        c1_t = g c1_{t-1} - φ c2_{t-1} + n u1_t
        c2_t = g c2_{t-1} + φ c1_{t-1} + n u2_t
        output = [f(c1_t), f(c2_t)]

    The recurrence is the same as in `lru`, with a factor n that follows from r in place of a learned one. The blocks of
    u are u1, u2.
    """

    cites = ("elelimy2024real",)

    activation: Literal["relu", "tanh"] = "relu"
    """The function f."""

    def cell(self, u, state, nu, theta):
        return turn(state, nu, theta, u, jnp.exp(log_scale(nu)))

    def output(self, u, state, **own):
        f = jax.nn.relu if self.activation == "relu" else jnp.tanh
        return f(jnp.concatenate(state, -1))

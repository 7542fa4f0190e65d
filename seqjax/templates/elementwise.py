"""The model my-model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import seqjax
from seqjax.models import sigmoid


@seqjax.register("model", "my-model")
@dataclass(frozen=True)
class MyModel(seqjax.Elementwise):
    """A leaky unit whose leak depends on the input: h_t = (1 - f) h_{t-1} + f u_n, with f = σ(u_f - w)."""

    blocks = 2
    affine = True  # the new state is A h + b, where A and b depend on u and the parameters only
    stable = True  # |A| <= 1 for all parameters and inputs

    def init_cell(self, key):
        """The parameters that `cell` reads by name, float[hidden] or float[n, hidden]."""
        return {"w": jax.random.uniform(key, (self.hidden,))}

    def cell(self, u, state, w):
        """One step of one layer; u = x W_xh + b_h has two blocks of `hidden` numbers."""
        u_f, u_n = jnp.split(u, 2, -1)
        f = sigmoid(u_f - w)
        return self.State(state.h + f * (u_n - state.h))

"""The gradient strategy my-gradient."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval

import seqjax


@seqjax.register("gradient", "my-gradient")
@dataclass(frozen=True)
class MyGradient(seqjax.Influence):
    """RTRL that keeps a part of what each number of the state does to itself: M_t = a D_t M_{t-1} + I_t, D = diag J."""

    kept: Annotated[float, Interval(ge=0, le=1)] = 0.9
    """a, the part."""

    claim = "biased"

    def advance(self, M, J, I):
        """M_t, float[S, P], from M_{t-1}, J_t = ds_t/ds_{t-1} [S, S] and I_t = ds_t/dθ [S, P]."""
        return self.kept * jnp.diagonal(J)[:, None] * M + I

    def within_units(self, J):
        """What is kept of J where each parameter feeds one unit of L numbers, float[L, L, hidden]."""
        return self.kept * jnp.eye(len(J), dtype=J.dtype)[..., None] * J

"""A diagonal state space model."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Elementwise, register


@register("model", "ssm")
@dataclass(frozen=True)
class SSM(Elementwise):
    """A diagonal state space model with N states a channel, and learned step sizes.

        A = -exp(a),   Δ = softplus(d)
        s_t[n] = exp(Δ A[n]) s_{t-1}[n] + Δ B[n] x_t
        y_t = Σ_n C[n] s_t[n] + D x_t

    for each channel x of u, of which there are `hidden`. A is real, starts as -1, -2, ..., -N, and Δ between .001 and
    .1, log-uniformly, as in S4D-Real (Gu et al. 2022, arXiv:2206.11893). With `selective`, B, C and Δ depend on the
    input, as in Mamba (Gu & Dao 2023, arXiv:2312.00752): u has blocks for x and for what is added to d, then N numbers
    each of B and C, which all channels share.
    """

    cites = ("gu2022parameterization", "gu2023mamba")
    also_called = ("s4d", "mamba")

    states: Annotated[int, Interval(ge=1)] = 16
    """N, the number of states of a channel."""
    selective: bool = False
    """Whether B, C and Δ depend on the input."""

    affine = True
    stable = True

    @property
    def width(self):
        """The number of entries of u."""
        return 2 * (self.hidden + self.states) if self.selective else self.hidden

    @property
    def units(self):
        """One for each state of each channel."""
        return self.states * self.hidden

    def init_cell(self, key):
        key_step, key_C = jax.random.split(key)
        steps = jnp.exp(jax.random.uniform(key_step, (self.hidden,), minval=jnp.log(1e-3), maxval=jnp.log(0.1)))
        grid = jnp.ones((self.states, self.hidden))
        own = {
            "a": jnp.log(jnp.arange(1.0, self.states + 1))[:, None] * grid,
            "d": steps + jnp.log(-jnp.expm1(-steps)),  # softplus(d) is the step
            "D": jnp.ones(self.hidden),
        }
        if not self.selective:
            own |= {"B": grid, "C": jax.random.normal(key_C, grid.shape)}
        return own

    def cell(self, u, state, a, d, D, B=None, C=None):
        x, step, B, _ = self._parts(u, d, B, C)
        decay = jnp.exp(-step * jnp.exp(a))
        old = state.h.reshape(*state.h.shape[:-1], self.states, self.hidden)
        return self.State((decay * old + step * B * x).reshape(state.h.shape))

    def output(self, u, state, a, d, D, B=None, C=None):
        x, _, _, C = self._parts(u, d, B, C)
        s = state.h.reshape(*state.h.shape[:-1], self.states, self.hidden)
        return jnp.sum(C * s, -2) + D * x[..., 0, :]

    def _parts(self, u, d, B, C):
        """x and Δ, [..., 1, hidden], and B and C, which fit to [..., states, hidden]."""
        if not self.selective:
            return u[..., None, :], jax.nn.softplus(d), B, C
        at = [self.hidden, 2 * self.hidden, 2 * self.hidden + self.states]
        x, step, B, C = jnp.split(u, at, -1)
        return x[..., None, :], jax.nn.softplus(d + step)[..., None, :], B[..., None], C[..., None]

"""A diagonal state space model."""

from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Elementwise, register
from seqjax.models import ComplexState


@register("model", "ssm")
@dataclass(frozen=True)
class SSM(Elementwise):
    """A diagonal state space model with N complex states a channel, and learned step sizes.

        A = -exp(a) + i ω,   Δ = softplus(d)
        s_t[n] = exp(Δ A[n]) s_{t-1}[n] + Δ B[n] x_t
        y_t = Σ_n Re(C[n] s_t[n]) + D x_t

    for each channel x of u, of which there are `hidden`. Δ starts between .001 and .1, log-uniformly, B as 1, and the
    parts of C as N(0, 1), as in S4D (Gu et al. 2022, arXiv:2206.11893). With `selective`, B, C and Δ depend on the
    input, as in Mamba (Gu & Dao 2023, arXiv:2312.00752): u has blocks for x and for what is added to d, then N numbers
    each of B, Re C and Im C, which all channels share. Mamba starts as `real`. The factor of the input is ΔB, as in the
    code of Mamba. S4D has (exp(ΔA) - 1) B / A, and y is twice the real part.
    """

    cites = ("gu2022parameterization", "gu2023mamba")
    also_called = ("s4d", "mamba")

    states: Annotated[int, Interval(ge=1)] = 8
    """N, the number of states of a channel."""
    selective: bool = False
    """Whether B, C and Δ depend on the input."""
    start: Literal["lin", "real"] = "lin"
    """A at the start, for n = 0, 1, ...: -1/2 + iπn (`lin`, S4D-Lin), or -(n + 1) (`real`, S4D-Real, as in Mamba)."""

    affine = True
    stable = True
    State = ComplexState

    @property
    def shares(self) -> bool:  # type: ignore[override]
        """Whether channels share what they read: they share B and C if these depend on the input."""
        return self.selective

    @property
    def width(self):
        """The number of entries of u."""
        return 2 * self.hidden + 3 * self.states if self.selective else self.hidden

    @property
    def units(self):
        """The number of units: one for each state of each channel."""
        return self.states * self.hidden

    def init_cell(self, key):
        key_step, key_C = jax.random.split(key)
        steps = jnp.exp(jax.random.uniform(key_step, (self.hidden,), minval=jnp.log(1e-3), maxval=jnp.log(0.1)))
        n, grid = jnp.arange(1.0 * self.states)[:, None], jnp.ones((self.states, self.hidden))
        own = {
            "a": (jnp.log(0.5) if self.start == "lin" else jnp.log(n + 1)) * grid,
            "omega": (jnp.pi * n if self.start == "lin" else 0.0) * grid,
            "d": steps + jnp.log(-jnp.expm1(-steps)),  # softplus(d) is the step
            "D": jnp.ones(self.hidden),
        }
        if not self.selective:
            C_re, C_im = jax.random.normal(key_C, (2, *grid.shape))
            own |= {"B": grid, "C_re": C_re, "C_im": C_im}
        return own

    def cell(self, u, state, a, omega, d, D, B=None, **C):
        x, step, B, _ = self._parts(u, d, B, **C)
        decay, phase = jnp.exp(-step * jnp.exp(a)), step * omega
        old = ComplexState(*map(self._by_channel, state))
        turned = old.times(decay * jnp.cos(phase), decay * jnp.sin(phase))
        new = ComplexState(turned.re + step * B * x, turned.im)
        return jax.tree.map(lambda a, like: a.reshape(like.shape), new, state)

    def output(self, u, state, a, omega, d, D, B=None, **C):
        x, _, _, (C_re, C_im) = self._parts(u, d, B, **C)
        s_re, s_im = map(self._by_channel, state)
        return jnp.sum(C_re * s_re - C_im * s_im, -2) + D * x[..., 0, :]

    def _by_channel(self, numbers):
        return numbers.reshape(*numbers.shape[:-1], self.states, self.hidden)

    def _parts(self, u, d, B, C_re=None, C_im=None):
        """x and Δ, [..., 1, hidden], and B and C, which broadcast to [..., states, hidden]."""
        if not self.selective:
            return u[..., None, :], jax.nn.softplus(d), B, (C_re, C_im)
        h = self.hidden
        x, step, shared = jnp.split(u, [h, 2 * h], -1)
        B, C_re, C_im = jnp.split(shared, 3, -1)
        over_states, over_channels = (lambda a: a[..., None, :]), (lambda a: a[..., None])
        C = over_channels(C_re), over_channels(C_im)
        return over_states(x), over_states(jax.nn.softplus(d + step)), over_channels(B), C

"""The linear recurrent unit."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Elementwise, Error, register
from seqjax.models import ComplexState


@dataclass(frozen=True)
class Ring(Elementwise):
    """A diagonal recurrence of complex numbers whose factors λ = exp(-exp(ν) + i exp(θ)) start in a ring.

    |λ| < 1 for all ν. |λ|² starts as U(r_min², r_max²), and the phase as U(0, max_phase).
    """

    r_min: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """The smallest |λ| at the start."""
    r_max: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """The largest |λ| at the start. For long sequences both are near 1, such as .9 and .999."""
    max_phase: Annotated[float, Interval(gt=0)] = 6.28
    """The largest phase of λ at the start."""

    blocks = 2
    output_blocks = 2
    affine = True
    stable = True
    State = ComplexState

    def __post_init__(self):
        super().__post_init__()
        if self.r_min >= self.r_max:
            raise Error(
                f"{type(self).__name__} cannot be made: r_min = {self.r_min} must be below r_max = {self.r_max}"
            )

    def init_cell(self, key):
        key_size, key_phase = jax.random.split(key)
        shape = (self.hidden,)
        squared = jax.random.uniform(key_size, shape, minval=self.r_min**2, maxval=self.r_max**2)
        # Not 0, where ν is infinite, and not 1, where the logarithm of 1 - |λ|² is infinite.
        squared = jnp.clip(squared, 1e-6, 1 - 1e-6)
        phase = jax.random.uniform(key_phase, shape, minval=1e-6 * self.max_phase, maxval=self.max_phase)
        return {"nu": jnp.log(-0.5 * jnp.log(squared)), "theta": jnp.log(phase)}


def turn(state, nu, theta, u, scale):
    """λ s + scale u, for u with a block of real and one of imaginary parts."""
    u_re, u_im = jnp.split(u, 2, -1)
    size, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
    turned = state.times(size * jnp.cos(phase), size * jnp.sin(phase))
    return ComplexState(turned.re + scale * u_re, turned.im + scale * u_im)


def log_scale(nu):
    """log √(1 - |λ|²): inputs that are multiplied by √(1 - |λ|²) give a state whose size does not depend on λ."""
    # 1 - |λ|² = 1 - exp(-2 exp(ν)), whose difference would lose digits near |λ| = 1.
    return 0.5 * jnp.log(-jnp.expm1(-2 * jnp.exp(nu)))


@register("model", "lru")
@dataclass(frozen=True)
class LRU(Ring):
    """The linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349), a diagonal recurrence of complex numbers.

        λ = exp(-exp(ν) + i exp(θ)),   |λ| < 1 for all ν
        s_t = λ s_{t-1} + exp(γ) B x_t
        output = [Re s_t, Im s_t]

    W_xh is [Re Bᵀ, Im Bᵀ], and the real matrix that reads the output is [Re Cᵀ; -Im Cᵀ], for Re(C s_t) of the paper.
    Its term D x_t is a part of a residual layer. λ starts in a ring, and exp(γ) = √(1 - |λ|²), so that the size of the
    state does not depend on λ.
    """

    cites = ("orvieto2023resurrecting",)

    def init_cell(self, key):
        own = super().init_cell(key)
        return own | {"gamma": log_scale(own["nu"])}

    def cell(self, u, state, nu, theta, gamma):
        return turn(state, nu, theta, u, jnp.exp(gamma))

    def output(self, u, state, **own):
        return jnp.concatenate(state, -1)

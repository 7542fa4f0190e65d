"""Random-feedback local online learning, without the random feedback."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval

from seqjax import register

from . import _units
from ._influence import Influence


@register("gradient", "rflo")
@dataclass(frozen=True)
class RFLO(Influence):
    """RTRL whose Jacobian is that of leaky units which do not act on each other.

        M_t = (1 - leak) M_{t-1} + I_t,   I_t = ∂s_t/∂θ
        dl_t/dθ ≈ ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    (Murray 2019, "Local online learning in recurrent networks with random feedback", eLife 8:e43299). It was made for
    h_t = (1 - leak) h_{t-1} + leak φ(...), whose leak it is to be given, and keeps of J that part alone. The paper also
    replaces the weights that bring the error back by random ones; here they are the true ones. M is carried from window
    to window. For a `Cell` of one layer without embedding a number is kept for each parameter and leaf of the state;
    otherwise M is float[S, P], S state units and P parameters.
    """

    leak: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """How much of a unit's state is lost in a step; its inverse is the time constant, in steps."""

    claim = "biased"

    def by_units(self, problem, params):
        return _units.fits(problem, params)

    def through_units(self, carried, q_TS, steps):
        J_LL1 = (1 - self.leak) * jnp.eye(q_TS.shape[1] // steps.problem.model.hidden, dtype=q_TS.dtype)[..., None]
        shape = (len(q_TS), *J_LL1.shape[:2], steps.problem.model.hidden)
        return _units.through(carried, jnp.broadcast_to(J_LL1, shape), q_TS, steps)

    def advance(self, M, J, I):
        return (1 - self.leak) * M + I

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
    """RTRL with the Jacobian of leaky units that do not act on each other.

        M_t = (1 - leak) M_{t-1} + I_t,   I_t = ∂s_t/∂θ
        dl_t/dθ ≈ ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    (Murray 2019, "Local online learning in recurrent networks with random feedback", eLife 8:e43299). The rule was made
    for networks h_t = (1 - leak) h_{t-1} + leak φ(...); `leak` should be that of the network, and only this part of J
    is kept. There are two differences to the paper. The weights that bring the error back are the true ones, where the
    paper uses random ones. And the loss of a step is a function of the state before it, so the last J on the way to a
    loss is whole: ∂l_t/∂s_{t-1} = ∂l_t/∂s_t J_t. In the paper ∂l_t/∂s_t meets M_t instead, where this J is reduced to
    the leak, too. In a trial the gradients of the recurrent and of the input weights differed by 11 to 15 % for this
    reason.

    M is carried from window to window. For a `Cell` of one layer without embedding one number is kept for each
    parameter and leaf of the state; otherwise M is float[S, P], for S state units and P parameters.
    """

    cites = ("murray2019local",)

    leak: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """The share of a unit's state that is lost in a step; its inverse is the time constant, in steps."""

    claim = "biased"

    def by_units(self, problem, params):
        return _units.fits(problem, params)

    def through_units(self, carried, q_TS, window):
        hidden = window.problem.model.hidden
        L = q_TS.shape[1] // hidden
        J_LL1 = (1 - self.leak) * jnp.eye(L, dtype=q_TS.dtype)[..., None]
        return _units.through(carried, jnp.broadcast_to(J_LL1, (len(q_TS), L, L, hidden)), q_TS, window)

    def advance(self, M, J, I):
        return (1 - self.leak) * M + I

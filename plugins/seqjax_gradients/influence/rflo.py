"""Random-feedback local online learning."""

from dataclasses import dataclass
from typing import Annotated, Literal

import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Influence, register
from seqjax.gradients import structure_of

from . import _feedback


@register("gradient", "rflo")
@dataclass(frozen=True)
class RFLO(Influence):
    """RTRL with the Jacobian of leaky units that do not act on each other.

        M_t = (1 - leak) M_{t-1} + I_t,   I_t = ∂s_t/∂θ
        dl_t/dθ ≈ ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    (Murray 2019, "Local online learning in recurrent networks with random feedback", eLife 8:e43299). The rule was made
    for networks h_t = (1 - leak) h_{t-1} + leak φ(...); `leak` should be the leak of the network, and only this part of
    J is kept.

    With random feedback it is the rule of the paper, dl_t/dθ ≈ L_t M_t: the error of the read-out reaches the units by
    fixed random weights, L_t = ∂l_t/∂o_t Bᵀ (Lillicrap et al. 2016). This needs a `Cell` of one layer without embedding
    and dropout, whose read-out is o_t = h_t W_hq + b_q.

    With the true weights, which is the default, the loss of a step is a function of the state before it, so the last J
    on the way to a loss is whole: ∂l_t/∂s_{t-1} = ∂l_t/∂s_t J_t. In the paper ∂l_t/∂s_t meets M_t instead, where this J
    is reduced to the leak, too. In a trial the gradients of the recurrent and of the input weights differed by 11 to
    15 % for this reason.

    M is carried from window to window. For a `Cell` of one layer without embedding one number is kept for each
    parameter and leaf of the state; otherwise M is float[S, P], for S state units and P parameters.
    """

    cites = ("murray2019local", "lillicrap2016random")

    leak: Annotated[float, Interval(ge=0, le=1)] = 0.1
    """The share of a unit's state that is lost in a step; its inverse is the time constant, in steps."""
    feedback: Literal["true", "random"] = "true"
    """By which weights the error of the read-out comes back to the units."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 0
    """The seed of random feedback weights."""

    claim = "biased"

    @property
    def argnums(self):  # type: ignore[override]
        """Random feedback only reaches the parameters of the units."""
        return (0, 1) if self.feedback == "true" else (0,)

    def init(self, problem, params, state, x=None):
        if self.feedback == "random":
            _feedback.check_reads_linearly(self, problem, params)
        return super().init(problem, params, state, x)

    def advance(self, M, J, I):
        return (1 - self.leak) * M + I

    def within_units(self, J):
        return (1 - self.leak) * jnp.eye(len(J), dtype=J.dtype)[..., None]

    def follow(self, carried, losses, trajectory, start, noise):
        if self.feedback == "true":
            return super().follow(carried, losses, trajectory, start, noise)
        L_TS = _feedback.signals(trajectory, self.feedback, self.seed)
        units = structure_of(trajectory.problem, trajectory.params).units
        num_steps, hidden = len(L_TS), units.hidden
        J = self.within_units(jnp.zeros((units.count, units.count, hidden), L_TS.dtype))
        J_T = jnp.broadcast_to(J, (num_steps, units.count, units.count, hidden))
        return _feedback.follow(carried, J_T, L_TS, losses, trajectory, units)

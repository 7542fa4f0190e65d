"""Eligibility propagation."""

import functools
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Influence, register
from seqjax.gradients import Memory, structure_of
from seqjax.gradients.influence.by_units import jacobians
from seqjax.models import recur

from . import _feedback
from ._feedback import Feedback


@register("gradient", "e-prop")
@dataclass(frozen=True)
class EProp(Influence):
    """A trace for each parameter, which follows the unit's own state, times a learning signal for this unit.

        e_t = D_t e_{t-1} + I_t,   ē_t = κ ē_{t-1} + e_t
        dl_t/dθ ≈ L_t ē_t,   L_t = δ_t Bᵀ

    with I_t = ∂s_t/∂θ and the error δ_t = ∂l_t/∂o_t of the read-out o_t = h_t W_hq + b_q (Bellec et al. 2020, "A
    solution to the learning dilemma for recurrent networks of spiking neurons", Nature Communications 11:3625). D_t is
    the derivative of a unit's state by its own state before, for a fixed recurrent input v_t = h_{t-1} W_hh. So what a
    unit does to itself and to others through W_hh is left out; `snap` keeps what it does to itself. The gradient of
    the read-out is exact.

    B are the weights of the read-out (symmetric e-prop), random ones that stay fixed (random e-prop, after Lillicrap et
    al. 2016), or zero, so that the read-out learns alone. A spiking cell with threshold adaptation needs no rule of its
    own: its state has one field more, and D_t is the derivative that the cell defines, with its surrogate for the
    derivative of a spike. The paper does not differentiate the reset of a neuron after a spike; a cell does the same by
    `stop_gradient`. In the paper κ belongs to a read-out which sums spikes with a leak. The read-out of a `Cell` has no
    leak, so κ > 0 is for a loss that sums the outputs in this way.

    It takes a `Cell` of one layer without embedding and dropout. For each parameter and field of the state one number
    is kept, or two if κ > 0. A window takes about as long as with `snap` in an RNN.
    """

    cites = ("bellec2020solution", "lillicrap2016random")

    feedback: Feedback = "true"
    """By which weights the error of the read-out comes back to the units."""
    kappa: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """κ, the share of the filtered trace that is kept in a step; 0: it is not filtered."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 0
    """The seed of random feedback weights."""

    claim = "biased"
    argnums = (0,)

    def init(self, problem, params, state, x=None):
        """e = 0, and with κ > 0 below it ē = 0, leaves [L, n, hidden] or [2 L, n, hidden]."""
        _feedback.check_reads_linearly(self, problem, params)
        traces = structure_of(problem, params).units.zeros(params)
        return Memory(rows=[jnp.concatenate([a, a]) for a in traces] if self.kappa else traces)

    def follow(self, carried, losses, trajectory, start, noise):
        known = structure_of(trajectory.problem, trajectory.params)
        D_T = jacobians(trajectory, known.units, functools.partial(known.apart, recur=_recur_constant))
        L_TS = _feedback.signals(trajectory, self.feedback, self.seed).astype(D_T.dtype)
        if self.kappa:
            # (e, ē) follow one rule: e_t = D e_{t-1} + I_t and ē_t = D e_{t-1} + κ ē_{t-1} + I_t.
            num_steps, L, _, hidden = D_T.shape
            kept = jnp.broadcast_to(self.kappa * jnp.eye(L, dtype=D_T.dtype)[None, :, :, None], D_T.shape)
            zeros = jnp.zeros((num_steps, L, L, hidden), D_T.dtype)
            D_T = jnp.concatenate([jnp.concatenate([D_T, zeros], 2), jnp.concatenate([D_T, kept], 2)], 1)
            L_TS = jnp.concatenate([jnp.zeros_like(L_TS), L_TS], 1)
        return _feedback.follow(carried, D_T, L_TS, losses, trajectory, known.units)


def _recur_constant(h, W_hh, b_hh):
    """h W_hh + b_hh, in whose derivative h is a constant."""
    return recur(jax.lax.stop_gradient(h), W_hh, b_hh)

"""Sparse n-step approximations of real-time recurrent learning."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import register
from seqjax.gradients import Memory

from . import _units
from ._influence import Influence


@register("gradient", "snap")
@dataclass(frozen=True)
class SnAp(Influence):
    """RTRL whose influence matrix keeps what a parameter reaches within n steps (Menick et al. 2021, arXiv:2006.07232).

        M_t = mask ∘ (J_t M_{t-1} + I_t),   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        dl_t/dθ ≈ ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    The mask is where I + |J| I + ... + |J|^{n-1} I is not zero, I and J being zero where they have been zero at all
    steps since the row was reset. M is carried from window to window. With n as large as the state has units nothing
    that is reached is left out, and this is RTRL. The loss of a step is a function of the state before it, so the last
    J on the way to a loss is whole: one step more than where the loss is a function of the masked s_t.

    n = 1, for a `Cell` of one layer without embedding: a number is kept for each parameter and leaf of the state. With
    one leaf a step costs about as much as with its gradient; with two, as in an LSTM, four to eight times as much.
    Otherwise M is kept whole, S·P numbers a row, and a step costs as much as with RTRL or more: that shows what n does,
    and is no way to be fast.
    """

    n: Annotated[int, Interval(ge=1)] = 1
    """Within how many steps a state unit must be reached for its entry to be kept."""

    claim = "biased"

    def by_units(self, problem, params):
        return self.n == 1 and _units.fits(problem, params)

    def init(self, problem, params, state):
        M = super().init(problem, params, state).rows
        if not self.by_units(problem, params):
            return Memory(rows=(M, jnp.zeros(M.shape, bool), jnp.zeros((len(M), len(M)), bool)))
        if len(jax.tree.leaves(M)[0]) == 1:
            return Memory(rows=M)
        return Memory(rows=(M, jax.tree.map(lambda a: jnp.zeros(a.shape, bool), M)))

    def influence(self, carried):
        return carried[0]

    def begin(self, carried, I):
        M, seen, joined = carried
        return M + I, seen | (I != 0), joined

    def advance(self, carried, J, I):
        M, seen, joined = carried
        seen, joined = seen | (I != 0), joined | (J != 0)
        return jnp.where(self._reached(seen, joined), J @ M + I, 0), seen, joined

    def through_units(self, carried, q_TS, steps):
        J_T = _units.local_jacobians(steps).astype(q_TS.dtype)
        if J_T.shape[1] == 1:
            return _units.through(carried, J_T, q_TS, steps)
        *carried, grads = _units.through_masked(*carried, J_T, q_TS, steps)
        return tuple(carried), grads

    def _reached(self, seen, joined):
        """The mask, from where I and J were ever not zero."""
        one_hop = (joined | jnp.eye(len(joined), dtype=bool)).astype(float)
        hops = min(self.n - 1, len(joined))
        within = jax.lax.fori_loop(0, hops, lambda _, r: jnp.minimum(one_hop @ r, 1), jnp.eye(len(joined)))
        return within @ seen.astype(float) > 0

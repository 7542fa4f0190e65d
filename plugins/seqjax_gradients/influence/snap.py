"""Sparse n-step approximations of real-time recurrent learning."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Influence, register
from seqjax.gradients import Memory, check_real, structure_of
from seqjax.gradients.contract.problem import zero_rows
from seqjax.gradients.influence.by_units import direct, jacobians

from . import _reached


@register("gradient", "snap")
@dataclass(frozen=True)
class SnAp(Influence):
    """RTRL whose influence matrix keeps what a parameter reaches within n steps (Menick et al. 2021, arXiv:2006.07232).

        M_t = mask_t ∘ (J_t M_{t-1} + I_t),   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        dl_t/dθ ≈ ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    mask_t is where I + |J| I + ... + |J|^{n-1} I is not zero. Here an entry of I or J counts as zero until the first
    step, since the row was reset, at which it is not. M and the mask are carried from window to window. If n is as
    large as the number of state units, nothing that is reached is left out, and this is RTRL. The loss of a step is a
    function of the state before it, so the last J on the way to a loss is whole: the gradient reaches one step further
    than where the loss is a function of the masked s_t.

    n = 1, for a `Cell` of one layer without embedding: one number is kept for each parameter and leaf of the state. If
    the state has one leaf, a step takes about as long as with its gradient; if it has two, as in an LSTM, four to eight
    times as long.

    n ≥ 2 is worth its cost for sparse networks. In a dense one a parameter reaches every unit within two steps: SnAp-2
    is RTRL, and `rtrl` is cheaper. In a sparse `Cell` (`density` < 1, or a `recurrent_mask` of its own) of one layer,
    without embedding and recurrent dropout, whose state has one field (`rnn`, `gru`), it is known beforehand which
    entries of M are zero. Let K be the largest number of units that a unit reaches within n - 1 steps, itself included,
    and p the number of parameters of a unit: its entries of W_xh, of the biases and of the cell's own parameters, and
    its entries of W_hh that are in use. Then M has hidden·K·p numbers per row, and a step takes hidden·K²·p
    multiplications. An entry counts as zero here only if the mask leaves no other value possible. `rtrl` needs more
    than hidden³·p multiplications in a loop that learns at every step. In a long window it multiplies M once for many
    steps, and needs about 2·hidden³ for each: there it is faster unless K is small.

    In all other cases M is kept whole, S·P numbers per row, and is multiplied at each step, which takes longer than
    `rtrl`. That shows the effect of n on the gradient; it is not an efficient implementation.
    """

    cites = ("menick2021practical",)

    n: Annotated[int, Interval(ge=1)] = 1
    """The number of steps within which a state unit must be reached for its entry to be kept."""

    claim = "biased"

    @property
    def within_units(self):
        """SnAp-1 keeps J within units."""
        return (lambda J: J) if self.n == 1 else None

    def init(self, problem, params, state, x=None):
        """M = 0, and where I and J were not zero so far: nowhere."""
        sparse = self._sparse_cell(problem, params)
        if sparse is not None:
            check_real(self, params, state)
            return Memory(rows=_reached.zeros(_reached.pattern(sparse, self.n), params))
        M, units = super().init(problem, params, state, x).rows, structure_of(problem, params).units
        if units is None or self.n > 1:
            return Memory(rows=(M, jnp.zeros(M.shape, bool), jnp.zeros((len(M), len(M)), bool)))
        if units.count == 1:  # the mask changes nothing, see `_through_masked`
            return Memory(rows=M)
        return Memory(rows=(M, [jnp.zeros(a.shape, bool) for a in M]))

    def _sparse_cell(self, problem, params):
        """The `Cell` in which it is known what is reached within n steps; None: it is unknown, or not needed."""
        return _reached.sparse_cell(problem, params) if self.n > 1 else None

    def follow(self, carried, losses, trajectory, start, noise):
        problem, params = trajectory.problem, trajectory.params
        known, sparse = structure_of(problem, params), self._sparse_cell(problem, params)
        if sparse is not None:
            carried, grads = _reached.through(carried, _reached.pattern(sparse, self.n), losses.q, trajectory)
        elif self.n == 1 and known.units is not None and known.units.count > 1:
            carried, grads = _through_masked(carried, losses.q, trajectory, known)
        else:
            return super().follow(carried, losses, trajectory, start, noise)
        return carried, jax.tree.map(jnp.add, losses.direct, grads)

    def influence(self, carried):
        return carried[0]

    def begin(self, carried, I):
        M, seen, joined = carried
        return M + I, seen | (I != 0), joined

    def advance(self, carried, J, I):
        M, seen, joined = carried
        seen, joined = seen | (I != 0), joined | (J != 0)
        return jnp.where(self._reached(seen, joined), J @ M + I, 0), seen, joined

    def _reached(self, seen, joined):
        """The mask bool[S, P], from the places where I and J were not zero so far, bool[S, P] and bool[S, S]."""
        # With 1 + |J| in the place of |J| the power n - 1 holds all shorter paths, too. Entries count paths; capped at
        # 1 they stay finite. More hops than there are units reach nothing new.
        one_hop = (joined | jnp.eye(len(joined), dtype=bool)).astype(float)
        hops = min(self.n - 1, len(joined))
        within = jax.lax.fori_loop(0, hops, lambda _, r: jnp.minimum(one_hop @ r, 1), jnp.eye(len(joined)))
        return within @ seen.astype(float) > 0


def _through_masked(carried, q_TS, trajectory, known):
    """By units, what is carried after the window, and Σ_t q_t M_{t-1}.

        M_t = seen_t ∘ (J_t M_{t-1} + I_t),   seen_t = seen_{t-1} or I_t ≠ 0

    The mask changes from step to step, so M has to be carried along the window. For units of one number the mask
    changes nothing, since the only entry of an unreached unit is zero, and `through` is faster.

    Args:
        carried: M, leaves [L, n, hidden], and seen, the same in bool: where I was not zero since the row was reset.
        q_TS: float[T, S].
        trajectory: the steps.
        known: the structure of the problem.
    """
    units, params = known.units, trajectory.params
    J_T = jacobians(trajectory, units, known.apart).astype(q_TS.dtype)
    q_TLH = q_TS.reshape(len(q_TS), units.count, units.hidden)

    def body(carry, inputs):
        (M, seen), grads = carry
        J, q, step = inputs
        M, seen = zero_rows(step.reset, (M, seen))
        I = direct(trajectory, units, step)
        grads = [g + jnp.einsum("lh,lnh->nh", q.astype(m.dtype), m) for g, m in zip(grads, M, strict=True)]
        seen = [old | (i != 0) for old, i in zip(seen, I, strict=True)]
        M = [
            jnp.where(s, jnp.einsum("ijh,jnh->inh", J.astype(m.dtype), m) + i, 0)
            for m, s, i in zip(M, seen, I, strict=True)
        ]
        return ((M, seen), grads), None

    nothing = [jnp.zeros(m.shape[1:], m.dtype) for m in carried[0]]
    (carried, grads), _ = jax.lax.scan(body, (carried, nothing), (J_T, q_TLH, trajectory.steps))
    return carried, units.like_params(grads, params)

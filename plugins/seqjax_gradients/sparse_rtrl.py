"""Real-time recurrent learning through a few random paths."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import register
from seqjax.gradients import UnrolledProblem, mapped, ravel_float, scan_rows, sees_vmap, where_rows

from ._carrying import Carrying
from ._parts import Part


@register("gradient", "sparse-rtrl")
@dataclass(frozen=True)
class SparseRTRL(Carrying):
    """RTRL in which each number of the state takes the influence of a few random numbers of the state before it.

        M_t = (mask ∘ J_t) M_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        dl_t/dθ ≈ ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    (Merin 2026, "Massive redundancy in gradient transport enables sparse online learning", arXiv:2603.15195).
    Each row of the mask has `paths` ones at random places, which stay the same. With as many as there are state
    numbers it is `rtrl`. The loss of a step is a function of the state before it, so the last J on the way to a loss is
    whole.

    It serves to compare gradients, not to save time: J is computed whole at each step, in S forward passes, and M is
    carried whole. A window takes about twice as long as with `rtrl`.
    """

    cites = ("merin2026massive",)

    paths: Annotated[int, Interval(ge=1)] = 4
    """The number of state numbers whose influence a state number takes."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """The seed of the places of the paths."""

    claim = "biased"

    def parts(self, problem, params, state):
        """The whole matrix in one part."""
        return [Part(None, 0, ravel_float(state)[0].size)]

    def estimate(self, problem, params, start, memory, batch, noise):
        size = ravel_float(jax.tree.map(lambda a: a[0], start(params)))[0].size
        return super().estimate(_FewPaths(problem, self.mask(size)), params, start, memory, batch, noise)

    def mask(self, size):
        """Which entries of J are kept, bool[size, size]."""
        order = np.argsort(np.random.default_rng(self.seed).random((size, size)), 1)
        return order < self.paths


class _FewPaths(UnrolledProblem):
    """A problem whose state passes derivatives through some entries of J alone; its losses see the whole state."""

    has_own_unroll = False
    has_fused_unroll = False

    def __init__(self, problem, mask):
        super().__init__(problem)
        self.mask, self.step = mask, self._step

    def _step(self, params, state, x):
        (new, _), loss = self.step_with_outputs(params, state, x)
        return new, loss

    def step_with_outputs(self, params, state, x):
        # The influence of the parameters on an initial state passes through the mask, as on any other state.
        reset, initial = self.problem.reset_of(params, x)
        entering = state if reset is None else where_rows(reset, initial, state)
        s, others, join = ravel_float(entering)

        def after(params, s):
            new, _ = self.problem.advance(params, join(s, others), x)
            return ravel_float(new)

        held, fixed = jax.lax.stop_gradient((s, params))
        _, pull = jax.vjp(lambda s: after(fixed, s)[0], held)
        rows = mapped(lambda row: pull(row)[0], (0,), s.size, sees_vmap(self.problem.step, params, state, x))
        J = rows(jnp.eye(s.size, dtype=s.dtype))
        # s - held is zero, so that the value does not change, and its derivative by s is the masked J.
        new, new_others, new_join = after(params, held)
        new = new + jnp.where(self.mask, J, 0) @ (s - held)
        (_, outputs), loss = self.problem.step_with_outputs(params, state, x)
        return (new_join(new, new_others), outputs), loss

    def unroll_with_outputs(self, params, state, xs, edge_weights=None, scored=None):
        return scan_rows(self.step_with_outputs, params, state, xs, edge_weights, scored)

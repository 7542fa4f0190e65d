"""Real-time recurrent learning through a few random paths."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import register
from seqjax.gradients import mapped, ravel_float, sees_vmap
from seqjax.gradients.contract.resetting import resetting

from ._carrying import Carrying


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

    def parts(self, known):
        """The whole matrix in one part."""
        return None

    def estimate(self, problem, params, start, memory, batch, noise):
        size = ravel_float(jax.tree.map(lambda a: a[0], start(params)))[0].size
        return super().estimate(_few_paths(problem, self.mask(size)), params, start, memory, batch, noise)

    def mask(self, size):
        """Which entries of J are kept, bool[size, size]."""
        order = np.argsort(np.random.default_rng(self.seed).random((size, size)), 1)
        return order < self.paths


def _few_paths(problem, mask):
    """The problem whose state passes derivatives through some entries of J alone; its losses see the whole state."""
    if problem.resets is not None:
        # The influence of the parameters on an initial state passes through the mask, as on any other state.
        return resetting(_few_paths(problem.resets.problem, mask), problem.resets.initial)

    def with_outputs(params, state, x):
        s, others, join = ravel_float(state)

        def after(params, s):
            new, _ = problem.step(params, join(s, others), x)
            return ravel_float(new)

        held, fixed = jax.lax.stop_gradient((s, params))
        _, pull = jax.vjp(lambda s: after(fixed, s)[0], held)
        rows = mapped(lambda row: pull(row)[0], (0,), s.size, sees_vmap(problem.step, params, state, x))
        J = rows(jnp.eye(s.size, dtype=s.dtype))
        # s - held is zero, so that the value does not change, and its derivative by s is the masked J.
        new, new_others, new_join = after(params, held)
        new = new + jnp.where(mask, J, 0) @ (s - held)
        (_, outputs), loss = problem.step_with_outputs(params, state, x)
        return (new_join(new, new_others), outputs), loss

    return problem.changed(with_outputs=with_outputs)

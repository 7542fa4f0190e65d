"""What RTRL, SnAp and RFLO share: the influence matrix M_t = ds_t/dθ, or a part of it, carried forwards.

For a step (s_t, l_t) = f(θ, s_{t-1}, x_t) let J_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ, q_t = ∂l_t/∂s_{t-1}. Then

    dl_t/dθ = q_t M_{t-1} + ∂l_t/∂θ

M is stored in one of two ways: dense, float[S, P] for S state units and P parameters; or, where the network is a `Cell`
whose parameters feed one unit each, by units (see `_units`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax import SequenceGradient
from seqjax.gradients import Memory, ravel_float, weighted_sum

from . import _units


class Steps(NamedTuple):
    """The steps of a window, at which derivatives are taken.

    Args:
        problem: whose steps.
        params: where.
        entering: the float vectors s_{t-1}, [T, S], and the other leaves of the states that enter the steps, [T, ...].
        join: a float vector and other leaves -> state.
        xs: what the steps read, leaves [T, ...].
    """

    problem: Any
    params: Any
    entering: Any
    join: Any
    xs: Any


class Influence(SequenceGradient):
    """The author writes `advance`: how M_t follows from M_{t-1}. M has the precision of the parameters."""

    of = "history"

    def by_units(self, problem, params):
        """Whether M is stored by units."""
        return False

    def init(self, problem, params, state):
        """M = 0. What the initial state owes to the parameters is added where a window starts."""
        if self.by_units(problem, params):
            M = _units.zeros(problem, params, state)
        else:
            theta, _ = ravel_pytree(params)
            M = jnp.zeros((ravel_float(state)[0].size, theta.size), theta.dtype)
        return Memory(rows=self.carried(M))

    def carried(self, M):
        """M = 0 with all that is carried beside it."""
        return M

    def influence(self, carried):
        """M, of what is carried."""
        return carried

    def begin(self, carried, I):
        """What is carried into a window's first step; I is what the state owes to the parameters as it starts."""
        return jax.tree.map(jnp.add, carried, I)

    def advance(self, carried, J, I):
        """What is carried after a step, from J_t and I_t; dense."""
        raise NotImplementedError

    def through_units(self, carried, q_TS, steps):
        """What is carried after the window, and Σ_t q_t M_{t-1} like the parameters; by units."""
        raise NotImplementedError

    def one(self, problem, params, start, memory, xs, weights, noise):
        """The states of the window; then all q_t and direct parts at once; then M along the window."""
        s, others, join = ravel_float(start(params))

        def step(params, s, others, x):
            state, loss = problem.step(params, join(s, others), x)
            s, others, _ = ravel_float(state)
            return (s, others), loss

        def record(carry, x):
            s, others = carry
            return step(params, s, others, x)[0], carry

        end, entering = jax.lax.scan(record, (s, others), xs)

        def all_losses(params, s_TS):
            return jax.vmap(step, (None, 0, 0, 0))(params, s_TS, entering[1], xs)[1]

        losses, pull = jax.vjp(all_losses, params, entering[0])
        direct, q_TS = pull(weights.astype(losses.dtype))

        steps = Steps(problem, params, entering, join, xs)
        if self.by_units(problem, params):
            carried, grads = self.through_units(memory.rows, q_TS, steps)
        else:
            carried = self.begin(memory.rows, _at_start(params, start))
            carried, grads = self._through(carried, q_TS, steps)
        grads = jax.tree.map(jnp.add, direct, grads)
        return weighted_sum(weights, losses), grads, join(*end), Memory(rows=carried)

    def _through(self, carried, q_TS, steps):
        """What is carried after the window, and Σ_t q_t M_{t-1} like the parameters, step by step."""
        theta, unravel = ravel_pytree(steps.params)

        def after(theta, s, others, x):
            state, _ = steps.problem.step(unravel(theta), steps.join(s, others), x)
            return ravel_float(state)[0].astype(theta.dtype)

        def body(carry, inputs):
            carried, grads = carry
            q, (s, others), x = inputs
            M = self.influence(carried)
            grads = grads + q.astype(M.dtype) @ M
            I, J = jax.jacrev(after, (0, 1))(theta, s, others, x)
            return (self.advance(carried, J.astype(theta.dtype), I), grads), None

        start = (carried, jnp.zeros(theta.size, theta.dtype))
        (carried, grads), _ = jax.lax.scan(body, start, (q_TS, steps.entering, steps.xs))
        return carried, unravel(grads)


def _at_start(params, start):
    """What the state that enters a window owes to the parameters, float[S, P]: zero but where a sequence starts."""
    theta, unravel = ravel_pytree(params)
    return jax.jacrev(lambda theta: ravel_float(start(unravel(theta)))[0])(theta).astype(theta.dtype)

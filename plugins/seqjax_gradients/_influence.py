"""What SnAp and RFLO share: the influence matrix M_t = ds_t/dθ, or an approximation of it, carried forwards.

For a step (s_t, l_t) = f(θ, s_{t-1}, x_t) let J_t = ∂s_t/∂s_{t-1}, I_t = ∂s_t/∂θ, q_t = ∂l_t/∂s_{t-1}. Then

    dl_t/dθ = q_t M_{t-1} + ∂l_t/∂θ

M is stored in one of two ways. Dense it is float[S, P], for S state numbers and P parameters. For a `Cell` in which
each parameter feeds one unit it is stored by units, see `_units` and `_reached`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax import SequenceGradient
from seqjax.gradients import Memory, mapped, ravel_float, replace_unscored, sees_vmap, weighted_sum, where_rows

from . import _units
from ._real import check_real


class Window(NamedTuple):
    """The steps of one sequence in a window, with the states at which their derivatives are taken.

    Args:
        problem: its `advance`, the step without resets, is differentiated.
        params: the parameters.
        entering: the states that enter the steps: their float vectors s_{t-1}, [T, S], and their other leaves, [T,
            ...].
        join: (float vector, other leaves) -> state.
        xs: what the steps read, leaves [T, ...].
        one_by_one: whether the step sees `vmap`, so that steps and cotangents are taken one after the other.
        reset: bool[T], the steps at which the sequence begins anew; None: there are none.
    """

    problem: Any
    params: Any
    entering: Any
    join: Any
    xs: Any
    one_by_one: bool
    reset: Any


class Influence(SequenceGradient):
    """The author writes `advance`: how M_t follows from M_{t-1}. M has the precision of the parameters.

    A strategy may carry more than M from step to step. What it carries is passed to `influence`, `begin` and `advance`,
    and is kept in `Memory.rows` between windows.
    """

    of = "history"

    def by_units(self, problem, params):
        """Whether M is stored by units."""
        return False

    def init(self, problem, params, state):
        """M = 0. The influence of the parameters on the initial state is added where a window starts."""
        check_real(self, params, state)
        if self.by_units(problem, params):
            return Memory(rows=_units.zeros(problem, params, state))
        theta, _ = ravel_pytree(params)
        return Memory(rows=jnp.zeros((ravel_float(state)[0].size, theta.size), theta.dtype))

    def influence(self, carried):
        """M, from what is carried."""
        return carried

    def begin(self, carried, I):
        """What is carried into the first step of a window; I is the influence of the parameters on its start, dense."""
        return carried + I

    def advance(self, carried, J, I):
        """What is carried after a step, from J_t and I_t; dense."""
        raise NotImplementedError

    def through_units(self, carried, q_TS, window):
        """By units: what is carried after the window, and Σ_t q_t M_{t-1}, which is like the parameters."""
        raise NotImplementedError

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Runs the window, takes the derivatives of all losses at once, then follows M along the window."""
        s, others, join = ravel_float(start(params))

        def step(params, s, others, x):
            state, loss = problem.advance(params, join(s, others), x)
            return ravel_float(state)[:2], loss

        def record(carry, x):
            reset, initial = problem.reset_of(params, x)
            s, others = carry if reset is None else where_rows(reset, ravel_float(initial)[:2], carry)
            return step(params, s, others, x)[0], ((s, others), reset)

        end, (entering, reset) = jax.lax.scan(record, (s, others), xs)
        one_by_one = sees_vmap(problem.step, params, join(s, others), jax.tree.map(lambda a: a[0], xs))

        # The states are constants here, so a loss that does not count can be taken at another step's state and input.
        (read_TS, read_others), read_xs = replace_unscored((entering, xs), weights != 0)

        def all_losses(params, s_TS):
            return mapped(step, (None, 0, 0, 0), len(weights), one_by_one)(params, s_TS, read_others, read_xs)[1]

        losses, pull = jax.vjp(all_losses, params, read_TS)
        direct, q_TS = pull(weights.astype(losses.dtype))

        window = Window(problem, params, entering, join, xs, one_by_one, reset)
        if self.by_units(problem, params):
            carried, grads = self.through_units(memory.rows, q_TS, window)
        else:
            carried = self.begin(memory.rows, _of_state(start, params))
            carried, grads = self._through(carried, q_TS, window)
        grads = jax.tree.map(jnp.add, direct, grads)
        return weighted_sum(weights, losses), grads, join(*end), Memory(rows=carried)

    def _through(self, carried, q_TS, window):
        """Dense: what is carried after the window, and Σ_t q_t M_{t-1}, which is like the parameters."""
        theta, unravel = ravel_pytree(window.params)

        def after(theta, s, others, x):
            state, _ = window.problem.advance(unravel(theta), window.join(s, others), x)
            return ravel_float(state)[0].astype(theta.dtype)

        anew = None
        if window.reset is not None:
            first = jax.tree.map(lambda a: a[0], window.xs)
            I = _of_state(lambda params: window.problem.reset_of(params, first)[1], window.params)
            anew = self.begin(jax.tree.map(jnp.zeros_like, carried), I)

        def body(carry, inputs):
            carried, grads = carry
            q, (s, others), x, reset = inputs
            carried = carried if anew is None else where_rows(reset, anew, carried)
            M = self.influence(carried)
            grads = grads + q.astype(M.dtype) @ M
            new, pull = jax.vjp(lambda theta, s: after(theta, s, others, x), theta, s)
            I, J = mapped(pull, (0,), new.size, window.one_by_one)(jnp.eye(new.size, dtype=new.dtype))
            return (self.advance(carried, J.astype(theta.dtype), I), grads), None

        start = (carried, jnp.zeros(theta.size, theta.dtype))
        (carried, grads), _ = jax.lax.scan(body, start, (q_TS, window.entering, window.xs, window.reset))
        return carried, unravel(grads)


def _of_state(start, params):
    """The influence of the parameters on the state that enters a window or follows a reset, float[S, P].

    It is zero unless a sequence starts here: a state that comes from the previous window is a constant to `start`, and
    its influence is in M already.
    """
    theta, unravel = ravel_pytree(params)
    return jax.jacrev(lambda theta: ravel_float(start(unravel(theta)))[0])(theta).astype(theta.dtype)

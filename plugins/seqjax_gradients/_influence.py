"""The common base of strategies that carry the influence matrix M_t = ds_t/dθ, or an approximation of it, forwards.

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

from . import _layers, _units
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
        weights: float[T], the weights of the losses.
        start: params -> the state in which the window starts.
        noise: what the strategy has drawn.
    """

    problem: Any
    params: Any
    entering: Any
    join: Any
    xs: Any
    one_by_one: bool
    reset: Any
    weights: Any
    start: Any = None
    noise: Any = ()


class Derivatives(NamedTuple):
    """The derivatives of the losses of a window if all states are held fixed.

    Args:
        direct: Σ_t ∂l_t/∂θ, like the parameters.
        q_TS: q_t, float[T, S].
    """

    direct: Any
    q_TS: Any


class Influence(SequenceGradient):
    """The author writes `advance`: how M_t follows from M_{t-1}. M has the precision of the parameters.

    A strategy may carry more than M from step to step. What it carries is passed to `influence`, `begin` and `advance`,
    and is kept in `Memory.rows` between windows. A strategy that stores M in a way of its own writes `init` and
    `follow` instead.
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
        step = split_advance(problem, join)

        def record(carry, x):
            reset, initial = problem.reset_of(params, x)
            s, others = carry if reset is None else where_rows(reset, ravel_float(initial)[:2], carry)
            return step(params, s, others, x)[0], ((s, others), reset)

        end, (entering, reset) = jax.lax.scan(record, (s, others), xs)
        one_by_one = sees_vmap(problem.step, params, join(s, others), jax.tree.map(lambda a: a[0], xs))
        window = Window(problem, params, entering, join, xs, one_by_one, reset, weights, start, noise)
        losses, derivatives = differentiate_losses(window)
        carried, grads = self.follow(memory.rows, derivatives, window)
        return weighted_sum(weights, losses), grads, join(*end), Memory(rows=carried)

    def follow(self, carried, derivatives, window):
        """What is carried after the window, and the gradient of the window, like the parameters."""
        if self.by_units(window.problem, window.params):
            carried, grads = self.through_units(carried, derivatives.q_TS, window)
        else:
            carried = self.begin(carried, of_state(window.start, window.params))
            carried, grads = self._through(carried, derivatives.q_TS, window)
        return carried, jax.tree.map(jnp.add, derivatives.direct, grads)

    def _through(self, carried, q_TS, window):
        """Dense: what is carried after the window, and Σ_t q_t M_{t-1}, which is like the parameters."""
        theta, unravel = ravel_pytree(window.params)

        def after(theta, s, others, x):
            state, _ = window.problem.advance(unravel(theta), window.join(s, others), x)
            return ravel_float(state)[0].astype(theta.dtype)

        anew = None
        if window.reset is not None:
            first = jax.tree.map(lambda a: a[0], window.xs)
            I = of_state(lambda params: window.problem.reset_of(params, first)[1], window.params)
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


def without_resets(window: Window) -> Window:
    """The same steps as steps of the problem without resets: each is entered by the state after its reset."""
    own = _layers.without_resets(window.problem)
    return window if own is window.problem else window._replace(problem=own, xs=window.xs[0])


def split_advance(problem: Any, join: Any) -> Any:
    """The step without resets, of a state that is split into its float vector and its other leaves.

    Args:
        problem: the problem.
        join: (float vector, other leaves) -> state.

    Returns:
        A function (params, float vector, other leaves, x) -> ((float vector, other leaves), loss).
    """

    def step(params, s, others, x):
        state, loss = problem.advance(params, join(s, others), x)
        return ravel_float(state)[:2], loss

    return step


def read_by_losses(window: Window) -> tuple[Any, Any]:
    """`entering` and `xs` for the losses. A step that is not scored gets the state and the input of one that is.

    The states are constants here, so a loss that does not count can be taken at another step's state and input.
    """
    return replace_unscored((window.entering, window.xs), window.weights != 0)


def differentiate_losses(window: Window) -> tuple[Any, Derivatives]:
    """The losses [T], and their derivatives with all states held fixed, each loss times its weight."""
    step = split_advance(window.problem, window.join)
    (s_TS, others_T), xs = read_by_losses(window)

    def all_losses(params, s_TS):
        one = mapped(step, (None, 0, 0, 0), len(window.weights), window.one_by_one)
        return one(params, s_TS, others_T, xs)[1]

    losses, pull = jax.vjp(all_losses, window.params, s_TS)
    return losses, Derivatives(*pull(window.weights.astype(losses.dtype)))


def of_state(start, params):
    """The influence of the parameters on the state that enters a window or follows a reset, float[S, P].

    It is zero unless a sequence starts here: a state that comes from the previous window is a constant to `start`, and
    its influence is in M already.
    """
    theta, unravel = ravel_pytree(params)
    return jax.jacrev(lambda theta: ravel_float(start(unravel(theta)))[0])(theta).astype(theta.dtype)

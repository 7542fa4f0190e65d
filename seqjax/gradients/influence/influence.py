"""`Influence`: the base of relatives of RTRL, which carry an approximation of the influence matrix forwards."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.gradient import SequenceGradient, weighted_sum
from seqjax.gradients.contract.problem import where_rows, zero_rows
from seqjax.gradients.contract.structure import structure_of
from seqjax.gradients.contract.window import Memory
from seqjax.gradients.influence import by_units
from seqjax.gradients.influence.trajectory import record
from seqjax.gradients.steps.floats import leaf_names, ravel_float
from seqjax.gradients.steps.mapping import mapped


class Influence(SequenceGradient):
    """A strategy that carries M_t = ds_t/dθ, or an approximation of it, from step to step and from window to window.

        dl_t/dθ = q_t M_{t-1} + ∂l_t/∂θ,   q_t = ∂l_t/∂s_{t-1}
        M_t = J_t M_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ

    The author writes `advance`: what is kept of J and I. M is float[S, P], for S state numbers and P parameters, in the
    precision of the parameters. An author whose rule is M_t = K(J_t) M_{t-1} + I_t, where K keeps entries within units,
    also writes `within_units`, which is K. M is then stored by units where each parameter feeds one unit, as in a
    `Cell` of one layer: L numbers for each parameter, for units of L numbers. `advance` must be the same rule there.

    `rtrl` and `layerwise` are no `Influence`: they multiply M once for many steps.

    Resets, initial states that depend on the parameters, unscored losses and counters in the state are taken care of.
    What is carried may be more than M: then the author also writes `init`, `influence` and `begin`. A strategy that
    stores M in a way of its own writes `init` and `follow`.

    >>> from dataclasses import dataclass
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Leaky(sj.Influence):
    ...     claim = "biased"
    ...     def advance(self, M, J, I):
    ...         return 0.5 * M + I
    >>> def step(w, s, x):
    ...     return s + w * x, s
    >>> loss, grads = sj.value_and_grad(step, Leaky())(jnp.array(1.0), jnp.array(0.0), jnp.ones(3), weights="last")
    >>> float(grads)  # 1 + 1/2, since the last loss reads the state before its step
    1.5
    """

    of = "history"

    within_units: ClassVar[Any] = None
    """within_units(J) -> what is kept of J within units, float[L, L, hidden]: J[i, j] is how number j of a unit changes
    its number i in a step. None: M is always float[S, P]."""

    def init(self, problem, params, state, x=None):
        """M = 0. The influence of the parameters on the initial state is added where a window starts."""
        check_real(self, params, state)
        units = structure_of(problem, params).units
        if units is not None and self.within_units is not None:
            return Memory(rows=units.zeros(params))
        theta, _ = ravel_pytree(params)
        return Memory(rows=jnp.zeros((ravel_float(state)[0].size, theta.size), theta.dtype))

    def advance(self, carried, J, I):
        """What is carried after a step, which is M_t unless the strategy carries more.

        Args:
            carried: M_{t-1}, float[S, P].
            J: J_t, float[S, S]. The numbers of the state are in the order of its leaves.
            I: I_t, float[S, P].
        """
        raise Error(f"{type(self).__name__} has no advance(self, carried, J, I): write what is carried after a step")

    def influence(self, carried):
        """M, from what is carried."""
        return carried

    def begin(self, carried, I):
        """What is carried into the first step of a window.

        Args:
            carried: what the window before left.
            I: float[S, P], the influence of the parameters on the state in which the window starts; zero unless a
                sequence starts there.
        """
        return carried + I

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Runs the window, takes the derivatives of all losses at once, then follows M along the window."""
        end, trajectory = record(problem, params, start, xs, weights)
        losses = trajectory.of_losses()
        carried, grads = self.follow(memory.rows, losses, trajectory, start, noise)
        return weighted_sum(weights, losses.losses), grads, end, Memory(rows=carried)

    def follow(self, carried, losses, trajectory, start, noise):
        """What is carried after the window, and the gradient of the window, like the parameters.

        Args:
            carried: `Memory.rows` of this sequence.
            losses: the `LossDerivatives` of the window.
            trajectory: its steps, a `Trajectory`.
            start: params -> the state in which the window starts.
            noise: what `draw` returned.
        """
        known = structure_of(trajectory.problem, trajectory.params)
        if known.units is not None and self.within_units is not None:
            carried, grads = self._through_units(carried, losses.q, trajectory, known)
        else:
            carried, grads = self._through(carried, losses.q, trajectory, start)
        return carried, jax.tree.map(jnp.add, losses.direct, grads)

    def _through_units(self, M, q_TS, trajectory, known):
        """By units: M after the window, and Σ_t q_t M_{t-1}, which is like the parameters."""
        J_T = by_units.jacobians(trajectory, known.units, known.apart)
        J_T = jnp.broadcast_to(jax.vmap(self.within_units)(J_T), J_T.shape)
        # M is zero before a step that begins anew.
        J_T, q_TS = zero_rows(trajectory.steps.reset, (J_T, q_TS))
        return by_units.through(M, J_T, q_TS, trajectory, known.units)

    def _through(self, carried, q_TS, trajectory, start):
        """Dense: what is carried after the window, and Σ_t q_t M_{t-1}, which is like the parameters."""
        params, steps = trajectory.params, trajectory.steps
        theta, unravel = ravel_pytree(params)

        def after(theta, s, others, x):
            return trajectory.after(unravel(theta), s, others, x).astype(theta.dtype)

        carried = self.begin(carried, influence_of(start, params))
        anew = None
        if trajectory.initial is not None:
            first_x = jax.tree.map(lambda a: a[0], steps.xs)
            nothing = self.init(trajectory.problem, params, trajectory.initial(params), first_x).rows
            anew = self.begin(nothing, influence_of(trajectory.initial, params))

        def body(carry, inputs):
            carried, grads = carry
            q, step = inputs
            carried = where_rows(step.reset, anew, carried)
            M = self.influence(carried)
            grads = grads + q.astype(M.dtype) @ M
            new, pull = jax.vjp(lambda theta, s: after(theta, s, step.others, step.xs), theta, step.floats)
            I, J = mapped(pull, (0,), new.size, trajectory.one_by_one)(jnp.eye(new.size, dtype=new.dtype))
            after_step = self.advance(carried, J.astype(theta.dtype), I)
            _check_carried(self, after_step, carried)
            return (after_step, grads), None

        (carried, grads), _ = jax.lax.scan(body, (carried, jnp.zeros(theta.size, theta.dtype)), (q_TS, steps))
        return carried, unravel(grads)


def _check_carried(strategy, new, old):
    """Checks that `advance` returns what a step needs; JAX would name neither the method nor the strategy."""
    got, wanted = ([dtype_shape(a) for a in jax.tree.leaves(tree)] for tree in (new, old))
    if got != wanted:
        name = f"{type(strategy).__name__}.advance"
        raise Error(f"{name} returned {got}, and must return what it was given as carried, {wanted}")


def influence_of(start, params):
    """The influence of the parameters on the state that enters a window or follows a reset, float[S, P].

    It is zero unless a sequence starts here: a state that comes from the previous window is a constant to `start`, and
    its influence is in M already.
    """
    theta, unravel = ravel_pytree(params)
    return jax.jacrev(lambda theta: ravel_float(start(unravel(theta)))[0])(theta).astype(theta.dtype)


def check_real(strategy: Any, params: Any, state: Any) -> None:
    """Checks that no parameter and no state is complex.

    A derivative by a complex number has two parts, and what such a strategy carries has one number for both.

    Raises:
        Error: one is.
    """
    for what, tree in {"parameter": params, "state": state}.items():
        for name, leaf in leaf_names(tree, ""):
            if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
                raise Error(
                    f"{type(strategy).__name__} carries derivatives of real numbers, and the {what} {name} is complex: "
                    "keep it as two floats, such as seqjax.models.ComplexState"
                )

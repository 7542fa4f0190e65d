"""What RTRL, SnAp and RFLO share: the influence matrix M_t = ds_t/dθ, or a part of it, carried forwards."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax import Cell, Memory, Model, SequenceGradient, ravel_float
from seqjax.gradient import weighted_sum


class Influence(SequenceGradient):
    """The author writes `advance`: how M_t follows from M_{t-1}.

        dl_t/dθ = q_t M_{t-1} + ∂l_t/∂θ,   q_t = ∂l_t/∂s_{t-1}

    M has the precision of the parameters.
    """

    of = "history"

    def storage(self, problem, params):
        """How M is stored."""
        return DENSE

    def init(self, problem, params, state):
        """What is carried, with M = 0; what the initial state owes to the parameters is added where a window starts."""
        return Memory(rows=self.carried(self.storage(problem, params).zeros(problem, params, state)))

    def carried(self, M):
        """M = 0 with all that is carried beside it."""
        return M

    def begin(self, carried, I):
        """What is carried into a window's first step; I is what the state owes to the parameters as it starts."""
        return jax.tree.map(jnp.add, carried, I)

    def advance(self, storage, carried, J, I):
        """What is carried after a step, from J_t = ∂s_t/∂s_{t-1} and I_t = ∂s_t/∂θ, or what is stored of them."""
        raise NotImplementedError

    def influence(self, carried):
        """M, of what is carried."""
        return carried

    def decay(self, q_TS, local_jacobians):
        """d_t, like q_TS, where M_t = d_t ∘ M_{t-1} + I_t by units: such a window has a shorter way. None: not so.

        Args:
            q_TS: all q_t.
            local_jacobians: gives J_t of all steps, float[T, L, L, hidden].
        """
        return None

    def one(self, problem, params, start, memory, xs, weights, noise):
        """The states of the window; then all q_t and direct parts at once; then M along the window."""
        storage = self.storage(problem, params)
        s, others, join = ravel_float(start(params))

        def step(params, s, others, x):
            state, loss = problem.step(params, join(s, others), x)
            s, others, _ = ravel_float(state)
            return (s, others), loss

        def record(carry, x):
            s, others = carry
            return step(params, s, others, x)[0], carry

        end, entering = jax.lax.scan(record, (s, others), xs)  # entering: s_{t-1}, leaves [T, ...]

        def all_losses(params, s_T):
            return jax.vmap(step, (None, 0, 0, 0))(params, s_T, entering[1], xs)[1]

        losses, pull = jax.vjp(all_losses, params, entering[0])
        direct, q_T = pull(weights.astype(losses.dtype))

        carried = self.begin(memory.rows, storage.at_start(problem, params, start))
        steps = (problem, params, join, entering, xs)
        decay = self.decay(q_T, lambda: UNITS.local_jacobians(*steps)) if storage is UNITS else None
        if decay is None:
            carried, grads = self._step_by_step(storage, carried, q_T, *steps)
        else:
            carried, grads = UNITS.all_at_once(carried, decay.astype(weights.dtype), q_T, *steps)
        grads = jax.tree.map(jnp.add, direct, storage.like_params(problem, params, grads))
        return weighted_sum(weights, losses), grads, join(*end), Memory(rows=carried)

    def _step_by_step(self, storage, carried, q_T, problem, params, join, entering, xs):
        """What is carried after the window, and Σ_t q_t M_{t-1}."""

        def body(carry, inputs):
            carried, grads = carry
            q, (s, others), x = inputs
            J, I = storage.jacobians(problem, params, s, others, join, x)
            carried = self.advance(storage, carried, J, I)
            grads = jax.tree.map(jnp.add, grads, storage.pull(q, self.influence(carried)))
            return (carried, grads), None

        grads = storage.pull(q_T[0], self.influence(carried))
        q_next = jnp.concatenate([q_T[1:], jnp.zeros_like(q_T[:1])])
        return jax.lax.scan(body, (carried, grads), (q_next, entering, xs))[0]


class Dense:
    """M as float[S, P], S state units and P parameters."""

    def zeros(self, problem, params, state):
        """M = 0."""
        theta, _ = ravel_pytree(params)
        return jnp.zeros((ravel_float(state)[0].size, theta.size), theta.dtype)

    def at_start(self, problem, params, start):
        """What the state that enters a window owes to the parameters: zero but where a sequence starts."""
        theta, unravel = ravel_pytree(params)
        return jax.jacrev(lambda theta: ravel_float(start(unravel(theta)))[0])(theta).astype(theta.dtype)

    def jacobians(self, problem, params, s, others, join, x):
        """J and I of a step."""
        theta, unravel = ravel_pytree(params)

        def step(theta, s):
            return ravel_float(problem.step(unravel(theta), join(s, others), x)[0])[0].astype(theta.dtype)

        I, J = jax.jacrev(step, (0, 1))(theta, s)
        return J.astype(theta.dtype), I

    def times(self, J, M):
        """J M."""
        return J @ M

    def pull(self, q, M):
        """Q M, float[P]."""
        return q.astype(M.dtype) @ M

    def like_params(self, problem, params, grads):
        """What `pull` gives, like the parameters."""
        return ravel_pytree(params)[1](grads)


DENSE = Dense()


class Units:
    """M of a `Cell` whose parameters feed one unit each: what each did to the leaves of its own unit's state.

    Leaves [L, n, hidden]: L leaves of the state, n hidden the size of the parameter. Of J the entries within a unit
    are kept, float[L, L, hidden].
    """

    def zeros(self, problem, params, state):
        """M = 0."""
        hidden = problem.model.hidden
        leaves = ravel_float(state)[0].size // hidden
        units = problem.model.unit_params(params)
        return jax.tree.map(lambda a: jnp.zeros((leaves, a.size // hidden, hidden), a.dtype), units)

    def at_start(self, problem, params, start):
        """Zero: a `Cell` starts from zeros."""
        return self.zeros(problem, params, start(params))

    def jacobians(self, problem, params, s, others, join, x):
        """J and I of a step: each from one product with ones for each leaf, since units do not mix."""
        J = self._local_jacobian(problem, params, join, (s, others), x)
        _, pull = jax.vjp(lambda params: _after(problem, params, join, (s, others), x), params)
        ones = _ones(len(J), problem.model.hidden, s.dtype)
        return J.astype(jnp.result_type(*jax.tree.leaves(params))), self._rows(problem, jax.vmap(pull)(ones)[0])

    def local_jacobians(self, problem, params, join, entering, xs):
        """J of all steps, float[T, L, L, hidden]."""
        return jax.vmap(self._local_jacobian, (None, None, None, 0, 0))(problem, params, join, entering, xs)

    def all_at_once(self, M, decay_TS, q_T, problem, params, join, entering, xs):
        """M after the window, and Σ_t q_t M_{t-1}, where M_t = d_t ∘ M_{t-1} + I_t.

        With λ_{t-1} = q_t + d_t λ_t and p_{t-1} = d_t p_t backwards from λ = 0 and p = 1, the sum is λ_{-1} M_{-1} +
        Σ_t λ_t I_t, and M_T = p_{-1} ∘ M_{-1} + Σ_t p_t ∘ I_t: each one product with the derivatives of all steps.
        """
        hidden, leaves = problem.model.hidden, len(jax.tree.leaves(M)[0])

        def back(carry, inputs):
            cotangent, product = carry
            d, q = inputs
            return (q.astype(d.dtype) + d * cotangent, d * product), carry

        last = jnp.zeros_like(decay_TS[0]), jnp.ones_like(decay_TS[0])
        (cotangent, product), (cotangent_TS, product_TS) = jax.lax.scan(back, last, (decay_TS, q_T), reverse=True)

        def all_after(params):
            return jax.vmap(_after, (None, None, None, 0, 0))(problem, params, join, entering, xs)

        s_TS, pull = jax.vjp(all_after, params)
        part = problem.model.unit_params(pull(cotangent_TS.astype(s_TS.dtype))[0])
        part = jax.tree.map(lambda a: a.reshape(-1, hidden), part)
        grads = jax.tree.map(jnp.add, self.pull(cotangent, M), part)
        own = _ones(leaves, hidden, s_TS.dtype)[:, None]
        new = self._rows(problem, jax.vmap(pull)(own * product_TS.astype(s_TS.dtype))[0])
        product = product.reshape(leaves, 1, hidden)
        return jax.tree.map(lambda M, new: product.astype(M.dtype) * M + new, M, new), grads

    def _local_jacobian(self, problem, params, join, entering, x):
        hidden = problem.model.hidden
        s, others = entering
        apart = replace(problem, model=Apart(problem.model))

        def column(ones):
            after = jax.jvp(lambda s: _after(apart, params, join, (s, others), x), (s,), (ones,))[1]
            return after.reshape(-1, hidden)

        return jax.vmap(column, out_axes=1)(_ones(s.size // hidden, hidden, s.dtype))

    def _rows(self, problem, stacked):
        """The parameters that feed units, leaves [L, n, hidden], of trees like the parameters, leaves [L, ...]."""
        units = problem.model.unit_params(stacked)
        return jax.tree.map(lambda a: a.reshape(len(a), -1, problem.model.hidden), units)

    def times(self, J, M):
        """J M."""
        return jax.tree.map(lambda M: sum(J[:, j, None] * M[j : j + 1] for j in range(len(M))), M)

    def pull(self, q, M):
        """Q M, leaves [n, hidden]."""

        def leaf(M):
            leaves, _, hidden = M.shape
            return (q.reshape(leaves, 1, hidden).astype(M.dtype) * M).sum(0)

        return jax.tree.map(leaf, M)

    def like_params(self, problem, params, grads):
        """What `pull` gives, like the parameters: zero for those that feed no unit."""
        units, back = jax.vjp(problem.model.unit_params, params)
        return back(jax.tree.map(lambda g, a: g.reshape(a.shape), grads, units))[0]


UNITS = Units()


def _after(problem, params, join, entering, x):
    """The float leaves of the state after a step."""
    return ravel_float(problem.step(params, join(*entering), x)[0])[0]


def _ones(leaves, hidden, dtype):
    """Ones for each leaf, float[L, S]."""
    return jnp.repeat(jnp.eye(leaves, dtype=dtype), hidden, axis=1)


@dataclass(frozen=True)
class Apart(Model):
    """A cell that steps by its `local_step`."""

    cell: Cell

    def step(self, params, state, x):
        return self.cell.local_step(params, state, x)


def storage(problem, params):
    """By units where the model says that each parameter feeds one."""
    is_apart = isinstance(problem.model, Cell) and problem.model.unit_params(params) is not None
    return UNITS if is_apart else DENSE

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

        def body(carry, inputs):
            carried, grads = carry
            q, (s, others), x = inputs
            J, I = storage.jacobians(problem, params, s, others, join, x)
            carried = self.advance(storage, carried, J, I)
            grads = jax.tree.map(jnp.add, grads, storage.pull(q, self.influence(carried)))
            return (carried, grads), None

        carried = self.begin(memory.rows, storage.at_start(problem, params, start))
        grads = storage.pull(q_T[0], self.influence(carried))
        q_next = jnp.concatenate([q_T[1:], jnp.zeros_like(q_T[:1])])
        (carried, grads), _ = jax.lax.scan(body, (carried, grads), (q_next, entering, xs))
        grads = jax.tree.map(jnp.add, direct, storage.like_params(problem, params, grads))
        return weighted_sum(weights, losses), grads, join(*end), Memory(rows=carried)


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
        hidden = problem.model.hidden
        ones = jnp.repeat(jnp.eye(s.size // hidden, dtype=s.dtype), hidden, axis=1)
        apart = replace(problem, model=Apart(problem.model))

        def after(problem, params, s):
            return ravel_float(problem.step(params, join(s, others), x)[0])[0]

        def column(ones):
            return jax.jvp(lambda s: after(apart, params, s), (s,), (ones,))[1].reshape(-1, hidden)

        J = jax.vmap(column, out_axes=1)(ones)
        _, pull = jax.vjp(lambda params: after(problem, params, s), params)
        I = problem.model.unit_params(jax.vmap(pull)(ones)[0])
        I = jax.tree.map(lambda a: a.reshape(len(a), -1, hidden), I)
        return J.astype(jax.tree.leaves(I)[0].dtype), I

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

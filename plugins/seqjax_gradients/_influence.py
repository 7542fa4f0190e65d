"""What RTRL, SnAp and RFLO share: the influence matrix M_t = ds_t/dθ, or a part of it, carried forwards."""

import functools
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

    def advance(self, carried, J, I):
        """What is carried after a step, from J_t = ∂s_t/∂s_{t-1} and I_t = ∂s_t/∂θ."""
        raise NotImplementedError

    def influence(self, carried):
        """M, of what is carried."""
        return carried

    def by_units(self, num_leaves, local_jacobians):
        """J_t, float[T, L, L, hidden], and sets of leaves: what replaces `advance` where M is stored by units.

        There M_t = J_t M_{t-1} + I_t for each parameter, and J_t is that within the set which the parameter reaches.

        Args:
            num_leaves: L, of the state.
            local_jacobians: gives the true J_t of all steps, within units.
        """
        raise NotImplementedError

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

        steps = (problem, params, join, entering, xs)
        if storage is UNITS:
            num_leaves = len(jax.tree.leaves(memory.rows)[0])
            J_T, sets = self.by_units(num_leaves, lambda: UNITS.local_jacobians(*steps))
            carried, grads = UNITS.through(memory.rows, J_T.astype(weights.dtype), sets, q_T, *steps)
        else:
            carried = self.begin(memory.rows, DENSE.at_start(problem, params, start))
            carried, grads = self._through(carried, q_T, *steps)
        grads = jax.tree.map(jnp.add, direct, storage.like_params(problem, params, grads))
        return weighted_sum(weights, losses), grads, join(*end), Memory(rows=carried)

    def _through(self, carried, q_T, problem, params, join, entering, xs):
        """What is carried after the window, and Σ_t q_t M_{t-1}, step by step."""

        def body(carry, inputs):
            carried, grads = carry
            q, (s, others), x = inputs
            grads = grads + DENSE.pull(q, self.influence(carried))
            return (self.advance(carried, *DENSE.jacobians(problem, params, s, others, join, x)), grads), None

        M = self.influence(carried)
        return jax.lax.scan(body, (carried, jnp.zeros(M.shape[1:], M.dtype)), (q_T, entering, xs))[0]


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

    def local_jacobians(self, problem, params, join, entering, xs):
        """J of all steps, float[T, L, L, hidden]."""
        return jax.vmap(self._local_jacobian, (None, None, None, 0, 0))(problem, params, join, entering, xs)

    def through(self, M, J_T, sets, q_T, problem, params, join, entering, xs):
        """M after the window, and Σ_t q_t M_{t-1}, where M_t = J_t M_{t-1} + I_t.

        With λ_{t-1} = q_t + J_tᵀ λ_t and P_{t-1} = P_t J_t backwards from λ = 0 and P = 1, the sum is λ_{-1} M_{-1} +
        Σ_t λ_t I_t, and M_T = P_{-1} M_{-1} + Σ_t P_t I_t: each one product with the derivatives of all steps. This is
        done within each of the `sets` of leaves; a parameter takes what was found within the set that it reaches.
        """
        hidden = problem.model.hidden
        q_T = q_T.reshape(len(q_T), -1, hidden).astype(J_T.dtype)
        L = q_T.shape[1]
        walks = [_backwards(J_T, q_T, leaves) for leaves in sets]

        def all_after(params):
            return jax.vmap(_after, (None, None, None, 0, 0))(problem, params, join, entering, xs)

        s_TS, pull = jax.vjp(all_after, params)
        wanted = [passed for _, passed in walks]
        if len(sets) > 1:  # which leaves each parameter reaches, from ones for each leaf
            wanted.append(jnp.broadcast_to(jnp.eye(L)[:, None, :, None], (L, len(s_TS), L, hidden)))
        cotangents = jnp.concatenate(wanted).reshape(-1, *s_TS.shape).astype(s_TS.dtype)

        def leaf(M, parts):
            reached = [(M[i] != 0) | (parts[i - L] != 0) for i in range(L)]  # by the last L cotangents
            found = [jnp.zeros_like(M[0])] * (1 + L)  # the sum, and the rows of M
            for leaves, (first, _) in zip(sets, walks, strict=True):
                is_own = functools.reduce(jnp.logical_and, [reached[i] == (i in leaves) for i in range(L)])
                for row, place in enumerate([0, *(1 + i for i in leaves)]):
                    here = parts[row] + sum(a.astype(M.dtype) * M[i] for a, i in zip(first[row], leaves, strict=True))
                    found[place] = jnp.where(is_own, here, found[place]) if len(sets) > 1 else here
                parts = parts[1 + len(leaves) :]
            return jnp.stack(found[1:]), found[0]

        leaves, structure = jax.tree.flatten(M)
        pulled = jax.tree.leaves(self._rows(problem, jax.vmap(pull)(cotangents)[0]))
        found = [leaf(*each) for each in zip(leaves, pulled, strict=True)]
        return tuple(jax.tree.unflatten(structure, part) for part in zip(*found, strict=True))

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

    def like_params(self, problem, params, grads):
        """A sum over the window like the parameters: zero for those that feed no unit."""
        units, back = jax.vjp(problem.model.unit_params, params)
        return back(jax.tree.map(lambda g, a: g.reshape(a.shape), grads, units))[0]


UNITS = Units()


def _backwards(J_T, q_T, leaves):
    """λ and the rows of P within a set of leaves: before the first step, and after each, [1 + rows, T, L, hidden]."""
    zeros, ones = jnp.zeros_like(q_T[0, 0]), jnp.ones_like(q_T[0, 0])

    def back(rows, inputs):  # number by number: as arrays with axes this small it takes thirty times as long on a CPU
        J, q = inputs
        before = [[sum(a * J[i, j] for i, a in zip(leaves, row, strict=True)) for j in leaves] for row in rows]
        before[0] = [a + q[j] for j, a in zip(leaves, before[0], strict=True)]
        return before, rows

    last = [[zeros for _ in leaves], *([ones if i == j else zeros for j in leaves] for i in leaves)]
    first, passed = jax.lax.scan(back, last, (J_T, q_T), reverse=True)
    nothing = jnp.zeros_like(q_T[:, 0])
    whole = [
        jnp.stack([row[leaves.index(i)] if i in leaves else nothing for i in range(q_T.shape[1])], 1) for row in passed
    ]
    return first, jnp.stack(whole)


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

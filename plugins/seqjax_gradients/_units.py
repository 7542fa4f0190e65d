"""The influence matrix of a `Cell` by units, where each parameter feeds one unit and so changes its state alone.

In a layer with state_t = cell(u_t, v_t, state_{t-1}), u_t = x_t W_xh + b_h, v_t = h_{t-1} W_hh, entry i of the last axis
of W_xh, W_hh, b_h feeds unit i mod hidden. What is kept of M is how each parameter changes the L leaves of its own
unit's state: leaves [L, n, hidden] for parameters of n hidden numbers. Of J_t the entries within units are kept,
float[L, L, hidden].
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Cell, Model
from seqjax.gradients import ravel_float


def fits(problem, params):
    """Whether the parameters of a problem feed one unit each: a `Cell` of one layer without embedding.

    Not where a subclass has a `step` or an `init_state` of its own, which may use the parameters in other ways.
    """
    model = getattr(problem, "model", None)
    return (
        isinstance(model, Cell)
        and type(model).step is Cell.step
        and type(model).init_state is Cell.init_state
        and model.layers == 1
        and model.embedding is None
    )


def zeros(problem, params, state):
    """M = 0."""
    hidden = problem.model.hidden
    leaves = ravel_float(state)[0].size // hidden
    return jax.tree.map(lambda a: jnp.zeros((leaves, a.size // hidden, hidden), a.dtype), _unit_params(params))


def local_jacobians(steps):
    """J_t within units of all steps, float[T, L, L, hidden]."""
    problem, params, (s_TS, others_T), join, xs = steps
    model, hidden = problem.model, problem.model.hidden
    apart = _Apart(model).problem(problem.spec, problem.loss, problem.dtype)

    def local_jacobian(s, others, x):
        def column(ones):
            after = jax.jvp(lambda s: _after(apart, params, join, s, others, x), (s,), (ones,))[1]
            return after.reshape(-1, hidden)

        return jax.vmap(column, out_axes=1)(_ones(s.size // hidden, hidden, s.dtype))

    return jax.vmap(local_jacobian)(s_TS, others_T, xs)


def through(M, J_T, q_TS, steps):
    """M after the window, and Σ_t q_t M_{t-1} like the parameters, where M_t = J_t M_{t-1} + I_t.

    With λ_{t-1} = q_t + J_tᵀ λ_t and P_{t-1} = P_t J_t backwards from λ_T = 0 and P_T = 1, the sum is
    λ_0 M_0 + Σ_t λ_t I_t, and M_T = P_0 M_0 + Σ_t P_t I_t. So M is not carried from step to step, which would read and
    write all of it T times: each sum is one product with the derivatives of all steps.
    """
    hidden = steps.problem.model.hidden
    L = J_T.shape[1]
    first, passed = _backwards(J_T, q_TS.reshape(len(q_TS), L, hidden).astype(J_T.dtype))

    def all_after(params):
        after = functools.partial(_after, steps.problem, params, steps.join)
        return jax.vmap(after)(*steps.entering, steps.xs)

    s_TS, pull = jax.vjp(all_after, steps.params)
    cotangents = passed.reshape(-1, *s_TS.shape).astype(s_TS.dtype)  # λ and the L rows of P
    pulled = _rows(jax.vmap(pull)(cotangents)[0], hidden)

    def leaf(M, parts):
        found = [
            part + sum(a.astype(M.dtype) * M[i] for i, a in enumerate(row))
            for part, row in zip(parts, first, strict=True)
        ]
        return jnp.stack(found[1:]), found[0]

    leaves, structure = jax.tree.flatten(M)
    found = [leaf(*each) for each in zip(leaves, jax.tree.leaves(pulled), strict=True)]
    M, grads = (jax.tree.unflatten(structure, part) for part in zip(*found, strict=True))
    return M, _like_params(steps.params, grads)


def through_masked(M, seen, J_T, q_TS, steps):
    """M after the window, where it has been reached, and Σ_t q_t M_{t-1} like the parameters, for L leaves.

        M_t = seen_t ∘ (J_t M_{t-1} + I_t),   seen_t = seen_{t-1} or I_t ≠ 0

    The mask changes from step to step, so that M is carried along the window. Where the state has a single leaf the
    mask changes nothing, and `through` is the faster way: what has not been reached is zero.
    """
    hidden = steps.problem.model.hidden
    L = J_T.shape[1]

    def direct(s, others, x):
        """I_t, leaves [L, n, hidden]: the pull-back of ones for each leaf, since a parameter feeds one unit alone."""
        new, pull = jax.vjp(lambda params: _after(steps.problem, params, steps.join, s, others, x), steps.params)
        return _rows(jax.vmap(pull)(_ones(L, hidden, new.dtype))[0], hidden)

    def body(carry, inputs):
        M, seen, grads = carry
        J, q, (s, others), x = inputs
        I = direct(s, others, x)

        def leaf(M, seen, I, grads):
            grads = grads + jnp.einsum("lh,lnh->nh", q.astype(M.dtype), M)
            seen = seen | (I != 0)
            return jnp.where(seen, jnp.einsum("ijh,jnh->inh", J.astype(M.dtype), M) + I, 0), seen, grads

        found = [leaf(*each) for each in zip(*map(jax.tree.leaves, (M, seen, I, grads)), strict=True)]
        structure = jax.tree.structure(M)
        return tuple(jax.tree.unflatten(structure, part) for part in zip(*found, strict=True)), None

    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), M)
    q_TLH = q_TS.reshape(len(q_TS), L, hidden)
    (M, seen, grads), _ = jax.lax.scan(body, (M, seen, nothing), (J_T, q_TLH, steps.entering, steps.xs))
    return M, seen, _like_params(steps.params, grads)


def _backwards(J_T, q_T):
    """λ and the rows of P: before the first step, nested lists of float[hidden], and after each, [1 + L, T, L, hidden].

    Number by number, as lists: as arrays with axes this small it takes thirty times as long on a CPU.
    """
    L = J_T.shape[1]
    zeros, ones = jnp.zeros_like(q_T[0, 0]), jnp.ones_like(q_T[0, 0])

    def back(rows, inputs):
        J, q = inputs
        before = [[sum(a * J[i, j] for i, a in enumerate(row)) for j in range(L)] for row in rows]
        before[0] = [a + q[j] for j, a in enumerate(before[0])]
        return before, rows

    last = [[zeros] * L, *([ones if i == j else zeros for j in range(L)] for i in range(L))]
    first, passed = jax.lax.scan(back, last, (J_T, q_T), reverse=True)
    return first, jnp.stack([jnp.stack(row, 1) for row in passed])


def _unit_params(params):
    """The parameters that feed one unit each."""
    return params["layer_0"]


def _rows(stacked, hidden):
    """The parameters that feed units, leaves [L, n, hidden], of trees like the parameters, leaves [L, ...]."""
    return jax.tree.map(lambda a: a.reshape(len(a), -1, hidden), _unit_params(stacked))


def _like_params(params, grads):
    """Sums for the parameters that feed units, like all parameters: zero for the others."""
    units, back = jax.vjp(_unit_params, params)
    return back(jax.tree.map(lambda g, a: g.reshape(a.shape), grads, units))[0]


def _after(problem, params, join, s, others, x):
    """The float leaves of the state after a step."""
    return ravel_float(problem.step(params, join(s, others), x)[0])[0]


def _ones(leaves, hidden, dtype):
    """Ones for each leaf, float[L, S]."""
    return jnp.repeat(jnp.eye(leaves, dtype=dtype), hidden, axis=1)


@dataclass(frozen=True)
class _Apart(Model):
    """A cell in whose derivative the units of a layer are apart: each acts on itself, by the diagonals of W_hh."""

    cell: Cell

    def step(self, params, state, x):
        return self.cell.step_with(_recur_apart, params, state, x)


@jax.custom_jvp
def _recur_apart(h, W_hh, b_hh):
    """h W_hh + b_hh, whose derivative takes entry i of h to unit i of each block alone."""
    return h @ W_hh if b_hh is None else h @ W_hh + b_hh


@_recur_apart.defjvp
def _recur_apart_tangent(primals, tangents):
    (h, W_hh, b_hh), (dh, dW_hh, db_hh) = primals, tangents
    blocks = W_hh.reshape(h.size, -1, h.size)
    own = jnp.diagonal(blocks, axis1=0, axis2=2).ravel()
    through_W = h @ dW_hh if db_hh is None else h @ dW_hh + db_hh
    return _recur_apart(h, W_hh, b_hh), own * jnp.tile(dh, blocks.shape[1]) + through_W

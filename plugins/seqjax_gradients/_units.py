"""The influence matrix by units, where each parameter feeds one unit and so changes its state alone.

In a layer of a `Cell` with state_t = cell(u_t, v_t, state_{t-1}), u_t = x_t W_xh + b_h, v_t = h_{t-1} W_hh, entry i of
the last axis of W_xh, W_hh, b_h feeds unit i mod hidden. In an `Elementwise` there is no v, and units do not act on
each other at all. A unit's state has L numbers, one in each leaf of the state: one in an RNN, two in an LSTM. M keeps
how each parameter changes these L numbers of its own unit, leaves [L, n, hidden] for a parameter array of n · hidden
numbers. The dense matrix has these entries and, where units act on each other, further ones, which SnAp-1 and RFLO
leave out. Then only the entries of J_t within units matter: J[i, j] is how number j of a unit before the step changes
its number i after the step, float[L, L, hidden].
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Cell, Model, Problem
from seqjax.gradients import mapped, ravel_float
from seqjax.models import recur

from ._layers import layered


def fits(problem, params):
    """Whether each parameter of a problem feeds one unit.

    It does in a `Cell` or an `Elementwise` of one layer without embedding; in the latter if the layer is no residual
    block, and has one unit for each of the `hidden` entries of a block.
    """
    model = layered(problem)
    if model is None or model.layers != 1 or model.embedding is not None:
        return False
    if type(problem).reset_of is not Problem.reset_of:  # its steps read more than the model's steps
        return False
    return isinstance(model, Cell) or not (model.residual or model.shares or model.units != model.hidden)


def zeros(problem, params, state):
    """M, filled with zeros."""
    hidden = problem.model.hidden
    L = ravel_float(state)[0].size // hidden
    return jax.tree.map(lambda a: jnp.zeros((L, a.size // hidden, hidden), a.dtype), _unit_params(params))


def local_jacobians(window, through_W_hh=True):
    """J_t within units for all steps, float[T, L, L, hidden].

    Args:
        window: the steps.
        through_W_hh: whether a unit of a `Cell` acts on itself through the diagonals of W_hh, too.
    """
    problem, hidden = window.problem, window.problem.model.hidden
    apart = problem
    if isinstance(problem.model, Cell):
        product = _recur_apart if through_W_hh else _recur_cut
        apart = _Apart(problem.model, product).problem(problem.spec, problem.loss, problem.precision)

    def local_jacobian(s, others, x):
        # In the derivative of `apart` no unit acts on another one. So one tangent of ones in leaf j gives column j of
        # all units at once, and L products with J replace L hidden of them.
        def column(ones):
            after = jax.jvp(lambda s: state_after(apart, window.params, window.join, s, others, x), (s,), (ones,))[1]
            return after.reshape(-1, hidden)

        return jax.vmap(column, out_axes=1)(_ones(s.size // hidden, hidden, s.dtype))

    s_TS, others_T = window.entering
    return mapped(local_jacobian, (0, 0, 0), len(s_TS), window.one_by_one)(s_TS, others_T, window.xs)


def through(M, J_T, q_TS, window, last=None):
    """M after the window, and Σ_t q_t M_{t-1} + last M_T like the parameters, where M_t = J_t M_{t-1} + I_t.

    M is not carried from step to step, which would read and write all of it T times. Let λ and P run backwards,

        λ_{t-1} = q_t + λ_t J_t,   λ_T = last     P_{t-1} = P_t J_t,   P_T = 1

    Then Σ_t q_t M_{t-1} + last M_T = λ_0 M_0 + Σ_t λ_t I_t, and M_T = P_0 M_0 + Σ_t P_t I_t. λ and P are small, [L] and
    [L, L] for each unit, and both sums over t are one product with the derivatives of all steps.

    Args:
        M: leaves [L, n, hidden]. L may be a multiple of the numbers of a unit's state: then M holds several matrices,
            I_t is added to each of them, and J_t says how they act on each other.
        J_T: float[T, L, L, hidden].
        q_TS: float[T, L hidden].
        window: the steps.
        last: float[L hidden]; None: zero.
    """
    L, hidden = J_T.shape[2:]
    last = jnp.zeros_like(q_TS[0]) if last is None else last
    q_TLH, last = (a.reshape(*a.shape[:-1], L, hidden).astype(J_T.dtype) for a in (q_TS, last))
    # 1 + L rows of L numbers for each unit: λ, then the rows of P.
    first, rows_T = _backwards(J_T, q_TLH, last)

    def all_after(params):
        def after(s, others, x):
            return state_after(window.problem, params, window.join, s, others, x)

        before_TS, others_T = window.entering
        return mapped(after, (0, 0, 0), len(before_TS), window.one_by_one)(before_TS, others_T, window.xs)

    # A parameter changes the state of its own unit alone, so Σ_t λ_t I_t is the pull-back of λ, for all units at once.
    s_TS, pull = jax.vjp(all_after, window.params)
    cotangents = rows_T.reshape(1 + L, len(s_TS), -1, s_TS.shape[1]).sum(2).astype(s_TS.dtype)
    sums = _by_unit(jax.vmap(pull)(cotangents)[0], hidden)

    def leaf(M, sums):
        """For M [L, n, hidden] and sums [1 + L, n, hidden] of one parameter array: (M_T, Σ_t q_t M_{t-1})."""
        rows = [
            part + sum(a.astype(M.dtype) * M[i] for i, a in enumerate(row))
            for part, row in zip(sums, first, strict=True)
        ]
        return jnp.stack(rows[1:]), rows[0]

    leaves, structure = jax.tree.flatten(M)
    pairs = [leaf(*each) for each in zip(leaves, jax.tree.leaves(sums), strict=True)]
    M, grads = (jax.tree.unflatten(structure, part) for part in zip(*pairs, strict=True))
    return M, like_params(window.params, grads)


def through_masked(M, seen, J_T, q_TS, window):
    """`through` for the masked matrix of SnAp-1; it also returns which entries the parameters reach.

        M_t = seen_t ∘ (J_t M_{t-1} + I_t),   seen_t = seen_{t-1} or I_t ≠ 0

    The mask changes from step to step, so M has to be carried along the window. For a state with L = 1 the mask changes
    nothing, since the only entry of an unreached unit is zero, and `through` is faster.

    Args:
        M: leaves [L, n, hidden].
        seen: the same in bool: where I was not zero at some step since the row was reset.
        J_T: float[T, L, L, hidden].
        q_TS: float[T, S].
        window: the steps.
    """
    hidden = window.problem.model.hidden
    L = J_T.shape[1]

    def body(carry, inputs):
        M, seen, grads = carry
        J, q, (s, others), x = inputs
        I = direct(window, s, others, x)

        def leaf(M, seen, I, grads):
            grads = grads + jnp.einsum("lh,lnh->nh", q.astype(M.dtype), M)
            seen = seen | (I != 0)
            return jnp.where(seen, jnp.einsum("ijh,jnh->inh", J.astype(M.dtype), M) + I, 0), seen, grads

        triples = [leaf(*each) for each in zip(*map(jax.tree.leaves, (M, seen, I, grads)), strict=True)]
        structure = jax.tree.structure(M)
        return tuple(jax.tree.unflatten(structure, part) for part in zip(*triples, strict=True)), None

    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), M)
    q_TLH = q_TS.reshape(len(q_TS), L, hidden)
    (M, seen, grads), _ = jax.lax.scan(body, (M, seen, nothing), (J_T, q_TLH, window.entering, window.xs))
    return M, seen, like_params(window.params, grads)


def direct(window, s, others, x):
    """I_t of a step, leaves [L, n, hidden]."""
    hidden = window.problem.model.hidden
    # A parameter feeds one unit alone, so the pull-back of ones in leaf i gives row i of I for all units at once.
    new, pull = jax.vjp(lambda params: state_after(window.problem, params, window.join, s, others, x), window.params)
    return _by_unit(jax.vmap(pull)(_ones(new.size // hidden, hidden, new.dtype))[0], hidden)


def _backwards(J_T, q_T, last):
    """λ and the rows of P: before the first step, and after each step.

    Args:
        J_T: float[T, L, L, hidden].
        q_T: float[T, L, hidden].
        last: float[L, hidden], λ after the last step.

    Returns:
        The values before the first step, 1 + L lists of L arrays float[hidden], and after each step, [1 + L, T, L,
        hidden].
    """
    L = J_T.shape[1]
    zeros, ones = jnp.zeros_like(q_T[0, 0]), jnp.ones_like(q_T[0, 0])

    # The entries are lists of separate arrays [hidden]. With one array, whose axes of size L are small, the same
    # product takes thirty times as long on a CPU.
    def back(rows, inputs):
        J, q = inputs
        before = [[sum(a * J[i, j] for i, a in enumerate(row)) for j in range(L)] for row in rows]
        before[0] = [a + q[j] for j, a in enumerate(before[0])]
        return before, rows

    end = [list(last), *([ones if i == j else zeros for j in range(L)] for i in range(L))]
    first, passed = jax.lax.scan(back, end, (J_T, q_T), reverse=True)
    return first, jnp.stack([jnp.stack(row, 1) for row in passed])


def _unit_params(params):
    """The parameters that feed one unit each."""
    return params["layer_0"]


def _by_unit(stacked, hidden):
    """The parameters that feed units, leaves [K, n, hidden], of trees like the parameters, leaves [K, ...]."""
    return jax.tree.map(lambda a: a.reshape(len(a), -1, hidden), _unit_params(stacked))


def like_params(params, grads):
    """Sums for the parameters that feed units, leaves [n, hidden], as a tree like all parameters, zero elsewhere."""
    units, back = jax.vjp(_unit_params, params)
    return back(jax.tree.map(lambda g, a: g.reshape(a.shape), grads, units))[0]


def state_after(problem, params, join, s, others, x):
    """The float leaves of the state after a step, [S]."""
    return ravel_float(problem.step(params, join(s, others), x)[0])[0]


def _ones(leaves, hidden, dtype):
    """For each leaf of the state ones in this leaf and zeros in the others, float[L, S]."""
    return jnp.repeat(jnp.eye(leaves, dtype=dtype), hidden, axis=1)


@dataclass(frozen=True)
class _Apart(Model):
    """The same cell with another derivative, in which no unit of the layer acts on another one.

    Args:
        cell: the cell.
        product: the recurrent product with this derivative.
    """

    cell: Cell
    product: Callable

    def step(self, params, state, x):
        return self.cell.step_with(self.product, params, state, x)

    def step_in_bfloat16(self, params, state, x):
        return self.cell.step_with(self.product, params, state, x, jnp.bfloat16)


@jax.custom_jvp
def _recur_apart(h, W_hh, b_hh):
    """h W_hh + b_hh, in whose derivative entry i of h acts on unit i of each block alone: the diagonals of W_hh."""
    return recur(h, W_hh, b_hh)


@_recur_apart.defjvp
def _recur_apart_tangent(primals, tangents):
    (h, W_hh, b_hh), (dh, dW_hh, db_hh) = primals, tangents
    blocks = W_hh.reshape(h.size, -1, h.size)
    own = jnp.diagonal(blocks, axis1=0, axis2=2).ravel()
    through_W = h @ dW_hh if db_hh is None else h @ dW_hh + db_hh
    return _recur_apart(h, W_hh, b_hh), own * jnp.tile(dh, blocks.shape[1]) + through_W


def _recur_cut(h, W_hh, b_hh):
    """h W_hh + b_hh, in whose derivative h is a constant."""
    return recur(jax.lax.stop_gradient(h), W_hh, b_hh)

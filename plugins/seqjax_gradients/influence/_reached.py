"""The influence matrix of a sparse `Cell`, in which each unit has rows for the units that it reaches soon.

In a layer with a `recurrent_mask` it is known beforehand which units a parameter reaches within n steps: the set R_j of
units that its own unit j reaches within n - 1 steps through the mask, and j itself. The block of unit j,

    M_j <- J[R_j, R_j] M_j + I_j

has a row for each of these units, and a column for each parameter of unit j that is in use: its entries of W_xh and of
the biases, the cell's own parameters, and those entries of W_hh that the mask does not leave out. Only the row of j in
I_j is not zero. The dense matrix with the mask of SnAp-n has these entries and no others.

The lists of units have different lengths, and are filled up with unit 0 to arrays. In J the rows of such entries have
no entries besides the diagonal, so that the rows of M_j stay zero.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Cell
from seqjax.gradients import ravel_float, structure_of
from seqjax.gradients.contract.problem import zero_rows
from seqjax.models import ModelProblem, recur


class Pattern(NamedTuple):
    """Which units the units of a layer reach, and which ones they read; constants.

    Args:
        mask: the mask of W_hh, bool[hidden, hidden].
        reached: the units of R_j, j itself first, int[hidden, K].
        is_reached: which entries of `reached` are not there to fill it up, bool[hidden, K].
        read: the units that a unit reads through the mask, int[hidden, F].
        is_read: which entries of `read` are not there to fill it up, bool[hidden, F].
    """

    mask: Any
    reached: Any
    is_reached: Any
    read: Any
    is_read: Any


def sparse_cell(problem: Any, params: Any) -> Cell | None:
    """The model of a problem if it is known which entries of J are zero, and a unit has one number; else None.

    With recurrent dropout further entries are zero, which differ from sequence to sequence.
    """
    units = structure_of(problem, params).units
    model = problem.own.model if isinstance(problem.own, ModelProblem) else None
    if units is None or units.count > 1 or not isinstance(model, Cell) or model.recurrent_dropout:
        return None
    return None if model.recurrent_mask(0) is None else model


def pattern(model: Cell, n: int) -> Pattern:
    """The pattern of a layer for SnAp-n."""
    mask = model.recurrent_mask(0)
    assert mask is not None
    one_hop = (mask | np.eye(model.hidden, dtype=bool)).astype(np.float32)
    within = np.eye(model.hidden, dtype=bool)
    for _ in range(n - 1):
        further = within.astype(np.float32) @ one_hop > 0
        if (further == within).all():  # from here on nothing new is reached
            break
        within = further
    return Pattern(mask, *_lists(within, first=np.arange(model.hidden)), *_lists(mask.T))


def _lists(matrix, first=None):
    """The columns of the True entries of each row, filled up with 0, and which entries are not there to fill up.

    Args:
        matrix: bool[rows, columns].
        first: a column of each row that comes first, int[rows].
    """
    keys = (~matrix).astype(int)
    if first is not None:
        keys[np.arange(len(keys)), first] = -1
    order, counts = np.argsort(keys, axis=1, kind="stable"), matrix.sum(1)
    is_there = np.arange(max(counts.max(), 1)) < counts[:, None]
    return np.where(is_there, order[:, : is_there.shape[1]], 0), is_there


def zeros(which: Pattern, params: Any) -> Any:
    """M = 0, [hidden, K, n] for the n parameters of a unit."""
    by_unit = jax.eval_shape(lambda params: _by_unit(which, params), params)
    hidden, n = by_unit.shape
    return jnp.zeros((hidden, which.reached.shape[1], n), by_unit.dtype)


def through(M: Any, which: Pattern, q_TS: Any, trajectory: Any) -> tuple[Any, Any]:
    """M after the window, and Σ_t q_t M_{t-1} like the parameters.

    Args:
        M: float[hidden, K, n].
        which: the pattern.
        q_TS: float[T, S].
        trajectory: the steps.
    """
    params = trajectory.params
    W_BHKK = _recurrent_blocks(which, params)
    diagonal = np.eye(which.reached.shape[1], dtype=bool)
    added = jnp.zeros_like(params["layer_0"]["b_h"])
    apart = structure_of(trajectory.problem, params).apart

    def derivatives(step):
        """I_t of the units, [hidden, n], and their new states by their blocks of v, [B, hidden], and by their old ones.

        Each of these numbers changes the state of one unit, so the pull-back of ones gives the derivatives of all.
        """

        def after(params, added, s):
            def recur_constant(h, W_hh, b_hh):
                return recur(jax.lax.stop_gradient(h), W_hh, b_hh) + added

            return ravel_float(apart(params, trajectory.join(s, step.others), step.xs, recur=recur_constant))[0]

        new, pull = jax.vjp(after, params, added, step.floats)
        I, by_v, by_s = pull(jnp.ones_like(new))
        return _by_unit(which, I).astype(M.dtype), by_v.reshape(-1, new.size).astype(M.dtype), by_s.astype(M.dtype)

    def body(carry, inputs):
        M, grads = carry
        q, step = inputs
        M = zero_rows(step.reset, M)
        grads = grads + jnp.einsum("hk,hkn->hn", q.astype(M.dtype)[which.reached], M)
        I, by_v, by_s = derivatives(step)
        J = jnp.where(diagonal, by_s[which.reached][:, :, None], 0)
        J = J + sum(d[which.reached][:, :, None] * W_HKK for d, W_HKK in zip(by_v, W_BHKK, strict=True))
        return ((J @ M).at[:, 0].add(I), grads), None

    (M, grads), _ = jax.lax.scan(body, (M, jnp.zeros_like(M[:, 0])), (q_TS, trajectory.steps))
    _, back = jax.vjp(lambda params: _by_unit(which, params), params)
    return M, back(grads)[0]


def _by_unit(which, params):
    """The parameters of each unit that are in use, [hidden, n], of a tree like the parameters. It is linear."""
    hidden = len(which.mask)
    layer = jax.tree.map(lambda a: a.reshape(-1, hidden).T, params["layer_0"])
    # [the unit that reads, the unit that is read, block] for all pairs, then for the pairs of the mask.
    W_HHB = params["layer_0"]["W_hh"].reshape(hidden, -1, hidden).transpose(2, 0, 1)
    W_HFB = jnp.where(which.is_read[:, :, None], W_HHB[np.arange(hidden)[:, None], which.read], 0)
    layer = layer | {"W_hh": W_HFB.reshape(hidden, -1)}
    return jnp.concatenate([a.astype(W_HFB.dtype) for a in jax.tree.leaves(layer)], axis=1)


def _recurrent_blocks(which, params):
    """For each block of v and unit j, the weight by which unit R_j[i] reads unit R_j[k], [B, hidden, K, K]."""
    hidden = len(which.mask)
    W_BHH = jnp.moveaxis(params["layer_0"]["W_hh"].reshape(hidden, -1, hidden), 1, 0)
    of, by = which.reached[:, None, :], which.reached[:, :, None]
    # M_j starts with zeros in the rows that fill it up, and with zeros in their rows here they stay zero.
    return jnp.where(which.mask[of, by] & which.is_reached[:, :, None], W_BHH[:, of, by], 0)

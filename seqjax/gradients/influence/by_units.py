"""The influence matrix by units: how each parameter changes the numbers of the one unit that it feeds.

A unit has L numbers, one in each field of the state: one in an RNN, two in an LSTM. M has leaves [L, n, hidden] for a
parameter array of n · hidden numbers, see `structure.Part`. The whole matrix has these entries and, where units act on
each other, further ones, which SnAp-1, RFLO and e-prop leave out. Then only the entries of J_t within units matter,
J[i, j]: how number j of a unit before the step changes its number i after the step, float[L, L, hidden].
"""

from typing import Any

import jax
import jax.numpy as jnp

from seqjax.gradients.contract.structure import Part
from seqjax.gradients.influence.trajectory import Trajectory
from seqjax.gradients.steps.floats import ravel_float
from seqjax.gradients.steps.mapping import mapped


def jacobians(trajectory: Trajectory, units: Part, apart: Any) -> Any:
    """J_t within units for all steps, float[T, L, L, hidden].

    Args:
        trajectory: the steps.
        units: how M is kept.
        apart: the step in whose derivative no unit acts on another one, see `Structure.apart`.
    """
    steps = trajectory.steps

    def of_step(s, others, x):
        def after(s):
            return ravel_float(apart(trajectory.params, trajectory.join(s, others), x))[0]

        # One tangent of ones in number j of all units gives column j for all units at once, and L products with J
        # replace L hidden of them.
        columns = jax.vmap(lambda ones: jax.jvp(after, (s,), (ones,))[1])(units.cotangents(s))
        return jnp.moveaxis(columns.reshape(units.count, units.count, -1), 0, 1)

    one_by_one = trajectory.one_by_one
    return mapped(of_step, (0, 0, 0), len(steps.weights), one_by_one)(steps.floats, steps.others, steps.xs)


def direct(trajectory: Trajectory, units: Part, step: Any) -> list[Any]:
    """I_t of one recorded step, leaves [L, n, hidden]."""
    after = lambda params: trajectory.after(params, step.floats, step.others, step.xs)
    new, pull = jax.vjp(after, trajectory.params)
    return units.rows(jax.vmap(pull)(units.cotangents(new))[0])


def through(
    M: list[Any], J_T: Any, q_TS: Any, trajectory: Trajectory, units: Part, last: Any = None
) -> tuple[list[Any], Any]:
    """M after the window, and Σ_t q_t M_{t-1} + last M_T like the parameters, where M_t = J_t M_{t-1} + I_t.

    M is not carried from step to step, which would read and write all of it T times. Let λ and P run backwards,

        λ_{t-1} = q_t + λ_t J_t,   λ_T = last     P_{t-1} = P_t J_t,   P_T = 1

    Then Σ_t q_t M_{t-1} + last M_T = λ_0 M_0 + Σ_t λ_t I_t, and M_T = P_0 M_0 + Σ_t P_t I_t. λ and P are small, [L] and
    [L, L] for each unit, and both sums over t are one product with the derivatives of all steps.

    Args:
        M: leaves [L, n, hidden]. L may be a multiple of the numbers of a unit: then M holds several matrices, I_t is
            added to each of them, and J_t says how they act on each other.
        J_T: float[T, L, L, hidden]; zero at a step that begins anew.
        q_TS: float[T, L hidden]; zero at a step that begins anew, since M is zero before it.
        trajectory: the steps.
        units: how M is kept.
        last: float[L hidden]; None: zero.
    """
    L, hidden = J_T.shape[2:]
    last = jnp.zeros_like(q_TS[0]) if last is None else last
    q_TLH, last = (a.reshape(*a.shape[:-1], L, hidden).astype(J_T.dtype) for a in (q_TS, last))
    # 1 + L rows of L numbers for each unit: λ, then the rows of P.
    first, rows_T = _backwards(J_T, q_TLH, last)
    # A parameter changes the state of its own unit alone, so Σ_t λ_t I_t is the pull-back of λ, for all units at once.
    s_TS = trajectory.steps.floats
    cotangents = rows_T.reshape(1 + L, len(s_TS), -1, s_TS.shape[1]).sum(2).astype(s_TS.dtype)
    sums = units.rows(jax.vmap(trajectory.to_params())(cotangents))

    def leaf(M, sums):
        """For M [L, n, hidden] and sums [1 + L, n, hidden] of one parameter array: (M_T, Σ_t q_t M_{t-1})."""
        rows = [
            part + sum(a.astype(M.dtype) * M[i] for i, a in enumerate(row))
            for part, row in zip(sums.astype(M.dtype), first, strict=True)
        ]
        return jnp.stack(rows[1:]), rows[0]

    pairs = [leaf(*each) for each in zip(M, sums, strict=True)]
    return [after for after, _ in pairs], units.like_params([row for _, row in pairs], trajectory.params)


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
    if len(J_T) == 1:
        # Without a loop, `vmap` over several q sees that P does not depend on them.
        first, passed = back(end, (J_T[0], q_T[0]))
        return first, jnp.stack([jnp.stack(row) for row in passed])[:, None]
    first, passed = jax.lax.scan(back, end, (J_T, q_T), reverse=True)
    return first, jnp.stack([jnp.stack(row, 1) for row in passed])

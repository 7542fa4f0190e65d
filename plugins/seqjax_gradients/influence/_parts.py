"""Parts of the influence matrix M = ds/dθ of one sequence, and how a window of steps changes them.

For steps that lead from the state s to the state s', let J = ∂s'/∂s and I = ∂s'/∂θ. Then

    M' = J M + I

J and I take one reverse pass of the steps for each number of s' (Schmidhuber 1992, "A fixed size storage O(n³) time
complexity learning algorithm for fully recurrent continually running networks"). So M is multiplied once for many
steps, and I is one product over all of them.

Where units do not act on each other, and a parameter feeds one unit, it changes the numbers of this unit alone. One
reverse pass then gives a number of all units at once, and M keeps one number for each parameter and number of a unit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.gradients import Part, Trajectory, mapped, ravel_float, sees_vmap
from seqjax.gradients.contract.rows import as_row
from seqjax.gradients.influence.trajectory import RecordedSteps, scan_blocks

SHORTEST_BLOCK = 32
"""The number of steps of a block for small states."""


def gradient(parts: Sequence[Part], q: Any, M: list[list[Any]], params: Any) -> Any:
    """The sum of q M over the parts, as a tree like the parameters."""
    terms = [part.gradient(q, m, params) for part, m in zip(parts, M, strict=True)]
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *terms)


def plus_start(parts: Sequence[Part], M: list[list[Any]], start: Callable, params: Any) -> list[list[Any]]:
    """M of the state in which a window starts.

    A state that comes from the window before is a constant to `start`, and its influence is in M already. The state may
    depend on the parameters only where a sequence starts.

    Args:
        parts: the parts.
        M: what the window before left, or zeros where a sequence starts.
        start: params -> the state of one sequence.
        params: the parameters.
    """
    s, pull = jax.vjp(lambda params: ravel_float(start(params))[0], params)
    return [part.plus(m, jax.vmap(pull)(part.cotangents(s))[0]) for part, m in zip(parts, M, strict=True)]


def after_window(
    parts: Sequence[Part], problem: Any, params: Any, M: list[list[Any]], state: Any, xs: Any
) -> list[list[Any]]:
    """M after the steps of a window of one sequence.

    Args:
        parts: the parts.
        problem: gives `step`, or a faster `unroll`.
        params: the parameters.
        M: the parts before the window.
        state: the state of the sequence before the window.
        xs: what the steps read, leaves [T, ...].
    """
    num_steps = len(jax.tree.leaves(xs)[0])
    one_by_one = sees_vmap(problem.step, params, state, jax.tree.map(lambda a: a[0], xs))
    run = _by_unroll if problem.fused else _by_step
    length = min(num_steps, _block_length(parts, num_steps))

    def block(carry, xs):
        state, M = carry
        s, others, join = ravel_float(state)
        (end, others), pull_back = run(problem, params, s, others, join, xs, one_by_one)
        M = [part.after(m, *pull_back(part.cotangents(end))) for part, m in zip(parts, M, strict=True)]
        # An unroll may return a state that is more precise than the one that it was given.
        return join(end.astype(s.dtype), others), M

    return scan_blocks(block, (state, M), xs, length, reverse=False)[1]


def _block_length(parts, num_steps):
    """The number of steps of a block.

    The reverse passes keep `count` cotangents of the state for each step. If M is kept by units, these are few, and a
    window is one block. Else a block has as many steps as there are cotangents: then J M takes no longer than I, and
    the cotangents no more memory than M, which has a row for each of them, and in a row at least the weights of a
    matrix [S, S]. Shorter blocks than that took up to 2.3 times as long (16 steps, RNN of 128 units), longer ones no
    less than .95.
    """
    if all(part.hidden is not None for part in parts):
        return num_steps
    return max(SHORTEST_BLOCK, *[part.count for part in parts])


def _by_unroll(problem, params, s, others, join, xs, one_by_one):
    """The state after a block, (vector, other leaves), and (cotangents [n, S]) -> (J, I), by the problem's unroll."""

    def end(params, s):
        new = problem.unroll(params, as_row(join(s, others)), as_row(xs, axis=1))[0]
        vector, others_after, _ = ravel_float(jax.tree.map(lambda a: a[0], new))
        return vector, others_after

    vector, pull, others_after = jax.vjp(end, params, s, has_aux=True)

    def pull_back(cotangents):
        I, J = mapped(pull, (0,), len(cotangents), one_by_one)(cotangents)
        return J, I

    return (vector, others_after), pull_back


def _by_step(problem, params, s, others, join, xs, one_by_one):
    """As `_by_unroll`, by the step. Its reverse passes only carry cotangents of states, and keep them for all steps.

    The pull-backs to the parameters follow afterwards, as one derivative of all steps side by side. If they were added
    up at each step, it would read and write as many numbers as M has.
    """
    steps = RecordedSteps(None, None, xs, jnp.ones(len(jax.tree.leaves(xs)[0])))
    end, trajectory = Trajectory(problem, params, steps, join, one_by_one).run((s, others))

    def pull_back(cotangents):
        J, rows_T = jax.lax.scan(
            lambda rows, step: (trajectory.back(rows, step), rows), cotangents, trajectory.steps, reverse=True
        )
        to_params = mapped(trajectory.to_params(), (0,), len(cotangents), one_by_one)
        return J, to_params(jnp.moveaxis(rows_T, 1, 0))

    return end, pull_back

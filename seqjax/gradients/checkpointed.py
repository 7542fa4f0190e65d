"""Checkpointing: a reverse pass that keeps few states, and computes the steps between them again."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.errors import Error
from seqjax.gradients.floats import combine, partition_float
from seqjax.gradients.problem import Params, Problem, State, UnrolledProblem
from seqjax.gradients.scored import scored_steps
from seqjax.gradients.unrolling import EdgeWeights

MOST_LEVELS = 12
"""The largest number of levels that `levels_within` considers."""
SLACK = 1.6
"""The factor between the bytes that a compiled reverse pass needs and the bytes of its residuals, at most."""


class Checkpointed(UnrolledProblem):
    """A problem whose reverse pass keeps the states at the start of segments only. It composes with edge weights.

    With one level, T steps are cut into about √T segments of √T steps. The reverse pass keeps the states between
    segments, recomputes the segments one by one, and keeps the residuals of one segment at a time (Chen et al. 2016,
    "Training deep nets with sublinear memory cost", arXiv:1604.06174). With n levels each segment is itself cut into
    segments with n - 1 levels: about (n + 1) T^(1 / (n + 1)) states are kept, and each step is computed n + 1 times
    forwards (Griewank & Walther 2000, "Algorithm 799: revolve", derive the optimal schedules).

    Args:
        problem: the problem.
        levels: the number of levels, at least 0; 0 keeps everything.
    """

    def __init__(self, problem: Problem, levels: int = 1):
        super().__init__(problem)
        self.levels = levels

    def unroll_with_outputs(self, params, state, xs, edge_weights=None, scored=None):
        """As in `Problem`."""
        return self._unroll(self.levels, params, state, (xs, edge_weights, scored))

    def _unroll(self, levels, params, state, steps):
        """`unroll_with_outputs` with `levels` levels; `steps` are (xs, edge_weights, scored)."""
        num_steps = len(jax.tree.leaves(steps[0])[0])
        size = segment_size(num_steps, levels)
        if levels == 0 or size == num_steps:
            return self.problem.unroll_with_outputs(params, state, *steps)

        def unroll(state, first, count):
            part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, count), steps)
            state, *results = self._unroll(levels - 1, params, state, part)
            return state, results

        def segment(state, first):
            return unroll(state, first, size)

        # The steps are sliced inside of the scan. Reshaped to [segments, size, ...] they would be copied where `size`
        # does not divide T. Inside a scan XLA cannot merge the second computation of a segment with the first one, so
        # nothing is needed to prevent it.
        whole = num_steps - num_steps % size
        firsts = jnp.arange(0, whole, size, dtype=jnp.int32)
        state, results = jax.lax.scan(jax.checkpoint(segment, prevent_cse=False), state, firsts)
        results = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), results)
        if whole < num_steps:
            state, rest = unroll(state, whole, num_steps - whole)
            results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, rest)
        return state, *results


def segment_size(num_steps: int, levels: int) -> int:
    """The length of the segments into which T steps are cut, about T^(n / (n + 1)) with n levels."""
    if levels == 1:
        return math.isqrt(num_steps)
    # A power in floating point may end just below a whole number.
    return max(1, math.floor(num_steps ** (levels / (levels + 1)) + 1e-9))


def levels_within(
    budget: int,
    problem: Problem,
    params: Params,
    state: State,
    xs: PyTree,
    edge_weights: EdgeWeights,
    weights: Float[Array, "T B"],
) -> int:
    """The fewest levels with which the reverse pass of a window needs at most `budget` bytes besides its arguments.

    The bytes of a step are those of the residuals that JAX would keep, found by tracing windows of one and two steps.
    Nothing is compiled. Outputs of the steps are not counted.

    Args:
        budget: the number of bytes.
        problem: the problem.
        params: the parameters.
        state: the state in which the window starts, leaves [B, ...].
        xs: what the steps read, leaves [T, B, ...].
        edge_weights: as in `Problem.unroll`.
        weights: the weights of the losses.

    Raises:
        Error: no number of levels fits into the budget; the message says how many bytes are needed.
    """
    steps = xs, edge_weights, scored_steps(weights)
    num_steps = len(weights)
    one = _residual_bytes(problem, params, state, jax.tree.map(lambda a: a[:1], steps))
    two = _residual_bytes(problem, params, state, jax.tree.map(lambda a: a[:2], steps))
    of_step, of_state = max(two - one, 1), _bytes(state)
    # Counted are the sum of the gradient, the part of one segment, the losses, their weights, and constant residuals.
    # The gradient of what the steps read is a result, and no temporary array.
    size = _bytes(params) - (_bytes(partition_float(xs)[0]) if problem.has_own_inputs else 0)
    fixed = 2 * (size + _bytes(weights)) + max(one - of_step, 0)

    needed = [fixed + SLACK * _kept(num_steps, levels, of_step, of_state) for levels in range(MOST_LEVELS + 1)]
    enough = [levels for levels, size in enumerate(needed) if size <= budget]
    if not enough:
        raise Error(
            f"a budget of {budget / 1e6:.3g} MB is too small for {num_steps} steps: with {needed.index(min(needed))} "
            f"levels, about {min(needed) / 1e6:.3g} MB are needed; allow more, or take fewer steps or rows at a time"
        )
    return enough[0]


def _kept(num_steps, levels, of_step, of_state):
    """The bytes that are kept at a time: the states of each level, and the residuals of one innermost segment."""
    size = segment_size(num_steps, levels)
    if levels == 0 or size == num_steps:
        return num_steps * of_step
    segments, rest = divmod(num_steps, size)
    inner = _kept(size, levels - 1, of_step, of_state)
    return segments * of_state + inner + (_kept(rest, levels - 1, of_step, of_state) if rest else 0)


def _residual_bytes(problem, params, state, steps):
    """The bytes of what the reverse pass of a window reads."""
    xs, *rest = steps
    floats, others = partition_float(state)

    def residuals(params, floats):
        def losses(params, floats):
            return problem.unroll(params, combine(floats, others), xs, *rest)[1]

        return jax.vjp(losses, params, floats)[1]

    return _bytes(jax.eval_shape(residuals, params, floats))


def _bytes(tree: Any) -> int:
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))

"""Backpropagation through time in full."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Problem, WeightedEdges, register


@register("gradient", "full")
@dataclass(frozen=True)
class Full(WeightedEdges):
    """Full backpropagation through the window: every edge weight is 1.

    With h_t = f(x_t, h_{t-1}, w), the derivative of the state follows the recurrence

        dh_t/dw = ∂f/∂w + ∂f/∂h dh_{t-1}/dw

    (Werbos 1990, "Backpropagation through time: what it does and how to do it"). It keeps what the backward pass needs
    of all T steps. With `checkpoint` it keeps what it needs of about 2√T steps, and takes one more forward pass (Chen
    et al. 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174).
    """

    checkpoint: bool = False
    """Keep every √T-th state only, and compute the steps between them again in the backward pass."""

    claim = "exact"

    def edge_weights(self, noise, memory, num_steps):
        """None: all ones."""
        return None, memory

    def estimate(self, problem, params, start, memory, batch, noise):
        problem = _Segmented(problem) if self.checkpoint else problem
        return super().estimate(problem, params, start, memory, batch, noise)


class _Segmented(Problem):
    """A problem that is unrolled segment by segment; the backward pass keeps only the states between segments."""

    def __init__(self, problem):
        super().__init__(problem.step, problem.init_state)
        self._unroll = problem.unroll

    def unroll(self, params, state, xs, edge_weights=None, scored=None):
        num_steps = len(jax.tree.leaves(xs)[0])
        size = math.isqrt(num_steps)
        whole = num_steps - num_steps % size

        def segment(state, inputs):
            xs, scored = inputs
            return self._unroll(params, state, xs, None, scored)

        def part(first, last):
            return jax.tree.map(lambda a: a[first:last], (xs, scored))

        segments = jax.tree.map(lambda a: a.reshape(whole // size, size, *a.shape[1:]), part(0, whole))
        # Inside a scan XLA cannot merge the second computation of a segment with the first one, so nothing is needed to
        # prevent it.
        state, losses = jax.lax.scan(jax.checkpoint(segment, prevent_cse=False), state, segments)
        losses = losses.reshape(whole, *losses.shape[2:])
        if whole < num_steps:
            state, rest = segment(state, part(whole, num_steps))
            losses = jnp.concatenate([losses, rest])
        return state, losses

"""The gradient of each loss through its own step alone."""

from dataclasses import dataclass

import jax

from seqjax import Gradient, register
from seqjax.gradients import Estimate, record_rows, scored_steps, split_float, weighted_sum, window_gradient
from seqjax.gradients.reverse.edges import segment_edges


@register("gradient", "immediate")
@dataclass(frozen=True)
class Immediate(Gradient):
    """Differentiates each loss through its own step: all edges between steps are cut.

        g = Σ_t w_t ∂l_t/∂θ   with s_{t-1} held fixed

    This is the part of lag 0, the gradient of `truncated` with segments of one step, and SnAp-0 in the numbering of
    Menick et al. (2021, arXiv:2006.07232). The states are computed by one pass forwards. Then all steps are
    differentiated side by side, as further rows, without a scan; a step that sees `vmap` is scanned with all edges cut.
    The state in which a window starts gets its gradient from the first step.
    """

    cites = ("menick2021practical",)

    claim = "biased"
    of = "window"
    argnums = (0, 1, 2)
    for_one_step = True

    def estimate(self, problem, params, start, memory, batch, noise):
        num_steps, num_rows = batch.weights.shape
        state = start(params)
        if problem.sees_vmap(params, state, batch.xs):
            edges = segment_edges(num_steps, 1)
            return window_gradient(problem, params, start, batch, edges)._replace(memory=memory)
        end, _, trajectory = record_rows(problem, params, state, batch.xs, batch.weights)
        steps, join = trajectory.steps, trajectory.join

        def side_by_side(tree):
            """Leaves [T, B, ...] as [T B, ...]."""
            return jax.tree.map(lambda a: a.reshape(num_steps * num_rows, *a.shape[2:]), tree)

        def loss(params):
            # The recorded states are constants but for the first one, which may depend on the parameters.
            first = split_float(start(params))[0]
            floats = [a.at[0].set(a_first) for a, a_first in zip(steps.floats, first, strict=True)]
            state = side_by_side(join(floats, steps.others))
            xs, weights = jax.tree.map(lambda a: a[None], side_by_side((problem.read(params, batch.xs), batch.weights)))
            _, losses, outputs = problem.unroll_with_outputs(params, state, xs, None, scored_steps(weights))
            return weighted_sum(weights, losses), outputs

        (loss, outputs), grads = jax.value_and_grad(loss, has_aux=True)(params)
        outputs = jax.tree.map(lambda a: a.reshape(num_steps, num_rows, *a.shape[2:]), outputs)
        return Estimate(loss, grads, end, memory, outputs)

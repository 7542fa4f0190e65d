"""The gradient of each loss through its own step alone."""

from dataclasses import dataclass

import jax

from seqjax import Gradient, register
from seqjax.gradients import Estimate, combine, partition_float, scored_steps, weighted_sum


@register("gradient", "immediate")
@dataclass(frozen=True)
class Immediate(Gradient):
    """Differentiates each loss through its own step: all edges between steps are cut.

        g = Σ_t w_t ∂l_t/∂θ   with s_{t-1} held fixed

    This is the part of lag 0, the gradient of `truncated` with segments of one step, and SnAp-0 in the numbering of
    Menick et al. (2021, arXiv:2006.07232). The states are computed by one pass forwards. Then all steps are
    differentiated side by side, as further rows, without a scan. The state in which a window starts gets its gradient
    from the first step.
    """

    claim = "biased"
    of = "window"
    argnums = (0, 1, 2)

    def estimate(self, problem, params, start, memory, batch, noise):
        num_steps, num_rows = batch.weights.shape

        def record(state, x):
            after, _ = problem.unroll(params, state, jax.tree.map(lambda a: a[None], x))
            return after, state

        end, entering = jax.lax.scan(record, start(params), batch.xs)

        def side_by_side(tree):
            """Leaves [T, B, ...] as [T B, ...]."""
            return jax.tree.map(lambda a: a.reshape(num_steps * num_rows, *a.shape[2:]), tree)

        def loss(params):
            first, _ = partition_float(start(params))
            floats, others = partition_float(entering)
            floats = jax.tree.map(lambda a, first: a.at[0].set(first), floats, first)
            state = side_by_side(combine(floats, others))
            xs, weights = jax.tree.map(
                lambda a: a[None], side_by_side((problem.inputs(params, batch.xs), batch.weights))
            )
            _, losses, outputs = problem.unroll_with_outputs(params, state, xs, None, scored_steps(weights))
            return weighted_sum(weights, losses), outputs

        (loss, outputs), grads = jax.value_and_grad(loss, has_aux=True)(params)
        outputs = jax.tree.map(lambda a: a.reshape(num_steps, num_rows, *a.shape[2:]), outputs)
        return Estimate(loss, grads, end, memory, outputs)

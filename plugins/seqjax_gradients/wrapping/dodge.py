"""The gradient along the direction that another strategy estimates."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from seqjax import Error, Gradient, SequenceGradient, Wrapping, register
from seqjax.gradients import Batch, Memory, norm
from seqjax.gradients.contract.rows import as_row
from seqjax_gradients.perturbed.directional import slope_along
from seqjax_gradients.reverse.truncated import Truncated


@register("gradient", "dodge")
@dataclass(frozen=True)
class Dodge(SequenceGradient, Wrapping):
    """The slope along the gradient that another strategy estimates, times this direction.

        g = (∂L/∂θ · d) d,   d = ĝ / ‖ĝ‖

    ĝ is the estimate of `strategy`, such as a truncated gradient, and L is the loss of the window (Silver et al. 2022,
    "Learning by directional gradient descent", with directions that are learned or computed in place of random ones).
    Each row has a direction of its own. The slope is exact: a direction that leads upwards changes its sign, so that -g
    of a row never increases the loss of this row to first order, which a truncated gradient may do. The part of the
    gradient that is orthogonal to d is lost. It costs what `strategy` costs and one forward pass with a tangent.
    """

    cites = ("silver2022learning",)

    strategy: Gradient = Truncated()
    """The strategy that gives the direction of each row; its `of` is the window."""

    claim = "biased"
    argnums = (0, 1)
    # The direction is a guess at what several steps add. With one step, the slope along its gradient is this gradient.
    for_one_step = False

    def __post_init__(self):
        super().__post_init__()
        if self.strategy.of != "window":
            raise Error(f"Dodge cannot be made: strategy = {self.strategy!r} must be of the window, not of the history")

    def one(self, problem, params, start, memory, xs, weights, noise):
        """The strategy's estimate for a batch of this row alone, then one forward-mode derivative."""
        xs_T1, weights_T1 = as_row((xs, weights), axis=1)
        batch = Batch(xs_T1, weights_T1, jnp.zeros(1, bool), jnp.zeros(1, jnp.int32))
        rows = Memory(memory.shared, as_row(memory.rows))
        estimate = self.strategy.estimate(
            problem, params, lambda params: as_row(start(params)), rows, batch, as_row(noise)
        )

        size = norm(estimate.grads)
        scale = 1 / jnp.where(size > 0, size, 1)
        direction = jax.tree.map(lambda a: a * scale.astype(a.dtype), estimate.grads)
        slope, loss, state = slope_along(problem, params, start, xs, weights, direction)
        grads = jax.tree.map(lambda d: slope.astype(d.dtype) * d, direction)
        return loss, grads, state, estimate.memory._replace(rows=jax.tree.map(lambda a: a[0], estimate.memory.rows))

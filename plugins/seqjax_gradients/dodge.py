"""The gradient along the direction that another strategy estimates."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Error, Gradient, SequenceGradient, register
from seqjax.gradients import Batch, Memory

from .directional import slope_along
from .truncated import Truncated


@register("gradient", "dodge")
@dataclass(frozen=True)
class Dodge(SequenceGradient):
    """The slope along the gradient that another strategy estimates, times this direction.

        g = (∂L/∂θ · d) d,   d = ĝ / ‖ĝ‖

    ĝ is the estimate of `guide`, such as a truncated gradient, and L is the loss of the window (Silver et al. 2022,
    "Learning by directional gradient descent", with directions that are learned or computed in place of random ones).
    Each row has a direction of its own. The slope is exact: a direction that leads upwards changes its sign, so that -g
    of a row never increases the loss of this row to first order, which a truncated gradient may do. The part of the
    gradient that is orthogonal to d is lost. It costs what `guide` costs and one forward pass with a tangent.
    """

    guide: Gradient = Truncated()
    """The strategy that gives the direction of each row; its `of` is the window."""

    claim = "biased"
    of = "window"

    def __post_init__(self):
        super().__post_init__()
        if self.guide.of != "window":
            raise Error(f"Dodge cannot be made: guide = {self.guide!r} must be of the window, not of the history")

    @property
    def draws(self):
        """Whether the direction is random."""
        return self.guide.draws

    def init(self, problem, params, state):
        """That of the guide."""
        return self.guide.init(problem, params, state)

    def draw(self, key, problem, params, memory, num_steps):
        """That of the guide."""
        return self.guide.draw(key, problem, params, memory, num_steps)

    def outcomes(self, problem, params, memory, num_steps):
        """Those of the guide."""
        return self.guide.outcomes(problem, params, memory, num_steps)

    def one(self, problem, params, start, memory, xs, weights, noise):
        """The guide's estimate for a batch of this row alone, then one forward-mode derivative."""
        xs_T1, weights_T1 = jax.tree.map(lambda a: a[:, None], (xs, weights))
        batch = Batch(xs_T1, weights_T1, jnp.zeros(1, bool), jnp.zeros(1, jnp.int32))
        rows = Memory(memory.shared, _as_row(memory.rows))
        found = self.guide.estimate(problem, params, lambda params: _as_row(start(params)), rows, batch, _as_row(noise))

        direction = _unit(found.grads)
        slope, loss, state = slope_along(problem, params, start, xs, weights, direction)
        grads = jax.tree.map(lambda d: slope.astype(d.dtype) * d, direction)
        return loss, grads, state, found.memory._replace(rows=jax.tree.map(lambda a: a[0], found.memory.rows))


def _as_row(tree):
    return jax.tree.map(lambda a: a[None], tree)


def _unit(tree):
    """The tree divided by its norm; zeros if it is zero. The norm is taken in float32 at least."""
    dtype = np.result_type(np.float32, *[a.dtype for a in jax.tree.leaves(tree)])
    leaves = [a.astype(dtype) for a in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack([jnp.abs(a).max(initial=0) for a in leaves]))
    scale = jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(a / scale)) for a in leaves))
    factor = 1 / jnp.where(norm > 0, norm, 1)
    return jax.tree.map(lambda a: ((a.astype(dtype) / scale) * factor).astype(a.dtype), tree)

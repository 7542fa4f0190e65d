"""Another strategy, whose bias is estimated during training."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Gradient, register
from seqjax.gradients import Memory, ravel_float, window_gradient

from .truncated import Truncated


class Measured(NamedTuple):
    """Running means over the rows and over the windows that were measured.

    Args:
        error: ĝ - g, like the parameters.
        gradient: g, like the parameters.
        age: int32[], the number of windows since the last measurement.
    """

    error: Any
    gradient: Any
    age: Any


@register("gradient", "certified")
@dataclass(frozen=True)
class Certified(Gradient):
    """The gradient of another strategy, with a running estimate of its relative bias as a column of the metrics.

    In one of `every` windows the full gradient g of the window is computed beside the estimate ĝ. With running means
    over these windows, in which a new window has the share `forget`,

        gradient_bias = ‖mean(ĝ - g)‖ / ‖mean(g)‖

    This is the relative bias of the strategy for the gradient of the window, on the windows of training, while the
    parameters change slowly. The means are over about 1 / forget windows: where the gradient of single windows is
    much larger than its mean, so is the mean over few of them, and the ratio is that of these windows. A random
    strategy adds the noise of its draws. It costs one full gradient in `every` windows, and 2 P numbers.
    """

    strategy: Gradient = Truncated()
    """The strategy that trains."""
    every: Annotated[int, Interval(ge=1)] = 10
    """The number of windows from one measurement to the next."""
    forget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """The share of the running means that a measurement replaces."""

    metric_names = ("gradient_bias",)

    @property
    def claim(self):  # type: ignore[override]
        """That of the strategy."""
        return self.strategy.claim

    @property
    def of(self):  # type: ignore[override]
        """That of the strategy."""
        return self.strategy.of

    @property
    def argnums(self):  # type: ignore[override]
        """Those of the strategy."""
        return self.strategy.argnums

    @property
    def draws(self):
        """Whether the strategy is random."""
        return self.strategy.draws

    def init(self, problem, params, state):
        """The memory of the strategy, and means of zero."""
        memory = self.strategy.init(problem, params, state)
        zeros = jax.tree.map(jnp.zeros_like, params)
        return memory._replace(shared=(memory.shared, Measured(zeros, zeros, jnp.zeros((), jnp.int32))))

    def draw(self, key, problem, params, memory, num_steps):
        """That of the strategy."""
        return self.strategy.draw(key, problem, params, _inner(memory), num_steps)

    def outcomes(self, problem, params, memory, num_steps):
        """Those of the strategy."""
        return self.strategy.outcomes(problem, params, _inner(memory), num_steps)

    def estimate(self, problem, params, start, memory, batch, noise):
        found = self.strategy.estimate(problem, params, start, _inner(memory), batch, noise)
        num_rows = batch.weights.shape[1]

        def measure(measured):
            full = window_gradient(problem, params, start, batch).grads

            # Gradients are sums over rows. The mean over the rows of all devices is the mean of their means.
            def remember(old, new):
                return (1 - self.forget) * old + self.forget * new / num_rows

            error = jax.tree.map(lambda old, a, b: remember(old, a - b), measured.error, found.grads, full)
            return measured._replace(error=error, gradient=jax.tree.map(remember, measured.gradient, full))

        measured = jax.lax.cond(memory.shared[1].age == 0, measure, lambda measured: measured, memory.shared[1])
        measured = measured._replace(age=(measured.age + 1) % self.every)
        return found._replace(memory=found.memory._replace(shared=(found.memory.shared, measured)))

    def metrics(self, memory):
        """The relative bias; NaN until something has been measured."""
        error, gradient = (jnp.linalg.norm(ravel_float(tree)[0]) for tree in memory.shared[1][:2])
        return {"gradient_bias": error / gradient}


def _inner(memory):
    """The memory of the strategy."""
    return Memory(memory.shared[0], memory.rows)

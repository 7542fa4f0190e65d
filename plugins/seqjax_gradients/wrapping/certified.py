"""Another strategy, whose bias is estimated during training."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval

from seqjax import Error, Gradient, Wrapping, register
from seqjax.gradients import Memory, ravel_float, window_gradient
from seqjax_gradients.reverse.truncated import Truncated


class Measured(NamedTuple):
    """What has been measured.

    Args:
        error: ĝ - g of the last measured window, like the parameters.
        gradient: g of the last measured window, like the parameters.
        squared_error: the running mean of ‖ĝ - g‖², without the last window.
        squared_gradient: the running mean of ‖g‖², without the last window.
        age: int32[], the number of windows since the last measurement.
    """

    error: Any
    gradient: Any
    squared_error: Any
    squared_gradient: Any
    age: Any


@register("gradient", "certified")
@dataclass(frozen=True)
class Certified(Wrapping):
    """The gradient of another strategy, with its relative error in the windows of training as a column of the metrics.

    In one of `every` windows the full gradient g of the window is computed beside the estimate ĝ. With running means
    over these windows, in which a new window has the share `forget`,

        gradient_bias = √(mean ‖ĝ - g‖² / mean ‖g‖²)

    For a strategy without randomness this is the relative bias in single windows, as `lags` and `measure` with one
    window show it. A random strategy adds the variance of its draws. `certified` costs one full gradient in `every`
    windows (in every window under `jax.vmap`), and 2 P numbers for P parameters.
    """

    strategy: Gradient = Truncated()
    """The strategy that trains."""
    every: Annotated[int, Interval(ge=1)] = 10
    """The number of windows from one measurement to the next."""
    forget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """The share of the running means that a measurement replaces."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.strategy, Certified):
            raise Error("Certified cannot be made: strategy is certified already")
        if self.strategy.of != "window":
            raise Error(
                f"Certified cannot be made: strategy = {self.strategy!r} must be of the window, whose full gradient is "
                "computed beside it"
            )

    @property
    def metric_names(self):  # type: ignore[override]
        """The relative error, and the metrics of the strategy."""
        return ("gradient_bias", *super().metric_names)

    def inner(self, memory):
        """The part of the memory that belongs to the strategy."""
        return Memory(memory.shared[0], memory.rows)

    def init(self, problem, params, state, x=None):
        """The memory of the strategy, and nothing measured."""
        memory = super().init(problem, params, state, x)
        zeros = jax.tree.map(jnp.zeros_like, params)
        measured = Measured(zeros, zeros, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))
        return memory._replace(shared=(memory.shared, measured))

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = super().estimate(problem, params, start, memory, batch, noise)
        num_rows = batch.weights.shape[1]

        def measure(measured):
            full = window_gradient(problem, params, start, batch).grads
            # Gradients are sums over rows: the mean over the rows of all devices is the mean of the devices' means.
            error = jax.tree.map(lambda a, b: (a - b) / num_rows, estimate.grads, full)
            gradient = jax.tree.map(lambda a: a / num_rows, full)
            return self._add_last(measured)._replace(error=error, gradient=gradient)

        measured = jax.lax.cond(memory.shared[1].age == 0, measure, lambda measured: measured, memory.shared[1])
        measured = measured._replace(age=(measured.age + 1) % self.every)
        return estimate._replace(memory=estimate.memory._replace(shared=(estimate.memory.shared, measured)))

    def metrics(self, memory):
        """The relative error; NaN until something has been measured."""
        measured = self._add_last(memory.shared[1])
        bias = jnp.sqrt(measured.squared_error / measured.squared_gradient)
        return {"gradient_bias": bias} | super().metrics(memory)

    def _add_last(self, measured):
        """The running means with the last window added. Their zero initialisation cancels in the ratio.

        A window is added only when the next one is measured. By then its gradients, like everything in `Memory.shared`,
        have been averaged over devices: the norm of a sum over all rows cannot be computed from the norms on each
        device.
        """

        def add(old, tree):
            return (1 - self.forget) * old + self.forget * jnp.sum(jnp.square(ravel_float(tree)[0].astype(float)))

        return measured._replace(
            squared_error=add(measured.squared_error, measured.error),
            squared_gradient=add(measured.squared_gradient, measured.gradient),
        )

"""Measures how the gradient of a loss decays on its way back, and keeps running means of it."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from seqjax import Problem, WeightedEdges
from seqjax.gradients import Batch, Params, State, record_rows


class Decay(NamedTuple):
    """Running means over rows, devices and windows, by lag k = 1, ..., K.

    Args:
        total: float[K], the running mean of ‖∂l_s/∂h_{s-k}‖^power, which counts as 0 where it is not measured.
        weight: float[K], the running mean of 1 where it is measured, and 0 where it is not.
        age: int32[], the number of windows since the last measurement.
    """

    total: Any
    weight: Any
    age: Any

    @property
    def known(self) -> Bool[Array, " K"]:
        """Which lags have been measured, bool[K]."""
        return self.weight > 0

    @property
    def mean(self) -> Float[Array, " K"]:
        """The mean of the measured values by lag, float[K]; zero at lags that have not been measured."""
        return jnp.where(self.known, self.total / jnp.where(self.known, self.weight, 1), 0)


class Probing(WeightedEdges):
    """Weighted edges that follow the decay of the gradient, which is measured in training and kept in `Memory.shared`.

    A subclass has the fields `every` and `forget`, which `probe` explains, and its `init` begins with `start_decay`.
    """

    every: Any
    forget: Any
    power: ClassVar[int]
    """The power of the norm whose mean is kept."""

    scan = None  # type: ignore[assignment]  # it needs the losses of the steps

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = super().estimate(problem, params, start, memory, batch, noise)
        options = {"every": self.every, "forget": self.forget, "power": self.power}
        decay = probe(memory.shared, problem, params, start(params), batch, **options)
        return estimate._replace(memory=estimate.memory._replace(shared=decay))


def start_decay(num_lags: int) -> Decay:
    """The state in which nothing has been measured."""
    return Decay(jnp.zeros(num_lags, float), jnp.zeros(num_lags, float), jnp.zeros((), jnp.int32))


def probe(
    decay: Decay, problem: Problem, params: Params, state: State, batch: Batch, *, every: Any, forget: Any, power: int
) -> Decay:
    """Measures one loss per row, once in `every` windows: the last scored loss in the first K steps of the window.

    A measurement costs K steps and their derivative by the state.

    Args:
        decay: the running means.
        problem: the problem.
        params: its parameters.
        state: the state that enters the window, leaves [B, ...].
        batch: the window; rows without a scored step are not counted.
        every: the number of windows from one measurement to the next.
        forget: the share of the old mean that is replaced by the new value.
        power: the power of the norm whose mean is kept.
    """

    def measure(decay):
        num_steps = min(len(decay.total), len(batch.weights))
        xs, scored_TB = jax.tree.map(lambda a: a[:num_steps], (batch.xs, batch.weights != 0))
        # The first True of the reversed steps is the last scored step.
        last_B = num_steps - 1 - jnp.argmax(scored_TB[::-1], axis=0)
        norms_KB = lag_norms(problem, params, state, xs, last_B) ** power
        reached_KB = (jnp.arange(num_steps)[:, None] <= last_B) & scored_TB.any(0)
        good_KB = reached_KB & jnp.isfinite(norms_KB)

        def remember(old, new_KB):
            new = jnp.zeros_like(old).at[:num_steps].set(jnp.mean(new_KB, axis=1, dtype=old.dtype))
            return (1 - forget) * old + forget * new

        total, weight = jnp.where(good_KB, norms_KB, 0), jnp.where(good_KB, 1.0, 0.0)
        return decay._replace(total=remember(decay.total, total), weight=remember(decay.weight, weight))

    decay = jax.lax.cond(decay.age == 0, measure, lambda decay: decay, decay)
    return decay._replace(age=(decay.age + 1) % every)


def lag_norms(
    problem: Problem, params: Params, state: State, xs: PyTree, last_B: Int[Array, " B"]
) -> Float[Array, "K B"]:
    """‖∂l_s/∂h_{s-k}‖ for k = 1, ..., K, where s = last_B[b] in row b, and h_{s-k} enters step s - k + 1.

    It is zero where this step lies before the first step.

    Args:
        problem: the problem.
        params: its parameters.
        state: the state that enters the first step, leaves [B, ...].
        xs: what the steps read, leaves [K, B, ...].
        last_B: the step of each row whose loss is differentiated.
    """
    num_steps = len(jax.tree.leaves(xs)[0])
    # Only the loss of step s counts: another one may be NaN.
    weights_TB = jnp.where(jnp.arange(num_steps)[:, None] == last_B, 1.0, 0.0)
    _, _, trajectory = record_rows(problem, params, state, xs, weights_TB)

    def back(slopes, inputs):
        step, q = inputs
        passed = trajectory.back([a[None] for a in slopes], step)
        slopes = [a[0] + b for a, b in zip(passed, q, strict=True)]
        squares = [jnp.square(jnp.abs(a.astype(float))).reshape(len(last_B), -1).sum(1) for a in slopes]
        return slopes, jnp.sqrt(sum(squares, start=jnp.zeros(len(last_B), float)))

    nothing = [jnp.zeros_like(a[0]) for a in trajectory.steps.floats]
    steps = trajectory.steps, trajectory.of_losses().q
    _, norms_TB = jax.lax.scan(back, nothing, steps, reverse=True)
    t_KB = last_B - jnp.arange(num_steps)[:, None]
    return jnp.where(t_KB >= 0, jnp.take_along_axis(norms_TB, jnp.maximum(t_KB, 0), axis=0), 0)


def decay_rate(mean: Float[Array, " K"], fitted: Bool[Array, " K"]) -> Float[Array, ""]:
    """β of the fit log mean_k = a + k log β, by least squares over the lags `fitted`; 0 if they are fewer than two.

    Lags whose mean is a rounding error beside the largest one are left out.
    """
    fitted &= mean > jnp.finfo(mean.dtype).eps * mean.max()
    weight = jnp.where(fitted, 1.0, 0.0)
    weight /= jnp.maximum(weight.sum(), 1)
    k, y = jnp.arange(len(mean), dtype=mean.dtype), jnp.log(jnp.where(fitted, mean, 1))
    k -= weight @ k
    variance = weight @ k**2
    return jnp.where(variance > 0, jnp.exp(weight @ (k * y) / jnp.where(variance > 0, variance, 1)), 0)

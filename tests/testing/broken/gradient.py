"""Strategies that are wrong. `rejected_by` names the checks that must find it."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

import seqjax
from seqjax.gradients import Memory, bit_patterns, segment_edges, window_gradient


@dataclass(frozen=True)
class Base(seqjax.Gradient):
    """Full backpropagation, from which the others are derived."""

    claim = "exact"
    of = "window"

    def estimate(self, problem, params, start, memory, batch, noise):
        return window_gradient(problem, params, start, batch)._replace(memory=memory)


@seqjax.register("gradient", "loss-alone")
@dataclass(frozen=True)
class LossAlone(Base):
    """It returns a loss in place of an estimate."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def estimate(self, *args):
        return super().estimate(*args).loss


@seqjax.register("gradient", "memory-in-half")
@dataclass(frozen=True)
class MemoryInHalf(Base):
    """Its memory changes its dtype."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def init(self, problem, params, state):
        return Memory(rows=jnp.zeros(()))

    def estimate(self, *args):
        e = super().estimate(*args)
        return e._replace(memory=Memory(rows=e.memory.rows.astype(jnp.bfloat16)))


@seqjax.register("gradient", "mean-of-the-steps")
@dataclass(frozen=True)
class MeanOfTheSteps(Base):
    """Its loss is a mean over the steps, and not a sum."""

    rejected_by: ClassVar = {"loss and state", "exact: window's gradient", "state without floats"}

    def estimate(self, problem, params, start, memory, batch, noise):
        e = super().estimate(problem, params, start, memory, batch, noise)
        return e._replace(loss=e.loss / len(batch.weights))


@seqjax.register("gradient", "twice-the-gradient")
@dataclass(frozen=True)
class TwiceTheGradient(Base):
    """Its gradient is twice as large."""

    rejected_by: ClassVar = {"exact: window's gradient", "state without floats", "gradients of params, state"}

    def estimate(self, *args):
        e = super().estimate(*args)
        return e._replace(grads=jax.tree.map(lambda a: 2 * a, e.grads))


class Halves(seqjax.WeightedEdges):
    """Cuts half of the edges, from which the others are derived."""

    claim = "unbiased"
    weight: ClassVar = 2.0

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.bernoulli(key, 0.5, (num_steps,))

    def outcomes(self, problem, params, memory, num_steps):
        return bit_patterns(num_steps), jnp.full(2**num_steps, 0.5**num_steps)

    def edge_weights(self, noise, memory, num_steps):
        return jnp.where(noise, self.weight, 0.0), memory


@seqjax.register("gradient", "without-the-weight")
@dataclass(frozen=True)
class WithoutTheWeight(Halves):
    """The weight 1/π is left out."""

    rejected_by: ClassVar = {"unbiased: window's gradient", "gradients of params, state, xs"}
    weight: ClassVar = 1.0


@seqjax.register("gradient", "draws-too-seldom")
@dataclass(frozen=True)
class DrawsTooSeldom(Halves):
    """It draws with another probability than `outcomes` says."""

    rejected_by: ClassVar = {"draw follows outcomes"}

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.bernoulli(key, 0.8, (num_steps,))


@seqjax.register("gradient", "one-draw-for-all-steps")
@dataclass(frozen=True)
class OneDrawForAllSteps(Halves):
    """One random number decides all cuts of a window."""

    rejected_by: ClassVar = {"draw follows outcomes"}

    def draw(self, key, problem, params, memory, num_steps):
        return jnp.full(num_steps, jax.random.bernoulli(key, 0.5))


@seqjax.register("gradient", "one-draw-for-all-rows")
@dataclass(frozen=True)
class OneDrawForAllRows(Halves):
    """It ignores its key."""

    rejected_by: ClassVar = {"draw follows outcomes", "rows and calls draw apart"}

    def draw(self, key, problem, params, memory, num_steps):
        return super().draw(jax.random.key(0), problem, params, memory, num_steps)


@seqjax.register("gradient", "one-weight-too-few")
@dataclass(frozen=True)
class OneWeightTooFew(seqjax.WeightedEdges):
    """It has no weight for the first edge."""

    rejected_by: ClassVar = {"shapes and dtypes"}
    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        return jnp.ones(num_steps - 1), memory


@seqjax.register("gradient", "cuts-the-start")
@dataclass(frozen=True)
class CutsTheStart(seqjax.WeightedEdges):
    """It cuts a learned initial state off."""

    rejected_by: ClassVar = {"learned initial state"}
    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        return jnp.ones(num_steps).at[0].set(0.0), memory


@seqjax.register("gradient", "normalises")
@dataclass(frozen=True)
class Normalises(Base):
    """It divides by the sum of the weights, which is 1 over all devices, and not over each."""

    rejected_by: ClassVar = {"rows are independent", "state without floats", "two devices"}
    claim = "biased"

    def estimate(self, problem, params, start, memory, batch, noise):
        e = super().estimate(problem, params, start, memory, batch, noise)
        return e._replace(grads=jax.tree.map(lambda a: a / batch.weights.sum(), e.grads))


@seqjax.register("gradient", "one-draw-for-all-cuts")
@dataclass(frozen=True)
class OneDrawForAllCuts(seqjax.WeightedEdges):
    """One random number decides all cuts of a window, each of which is reweighted as if it were drawn alone."""

    rejected_by: ClassVar = {"unbiased: window's gradient"}
    claim = "unbiased"

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.bernoulli(key, 0.5)

    def outcomes(self, problem, params, memory, num_steps):
        return jnp.array([False, True]), jnp.array([0.5, 0.5])

    def edge_weights(self, noise, memory, num_steps):
        return jnp.where(segment_edges(num_steps, 3) == 1, 1.0, jnp.where(noise, 2.0, 0.0)), memory


@seqjax.register("gradient", "metrics-of-another-name")
@dataclass(frozen=True)
class MetricsOfAnotherName(Base):
    """Its metrics have another name than it announces."""

    rejected_by: ClassVar = {"shapes and dtypes"}
    metric_names: ClassVar = ("gradient_weight",)

    def metrics(self, memory):
        return {"gradient_share": jnp.ones(())}


@seqjax.register("gradient", "cuts-above-one")
@dataclass(frozen=True)
class CutsAboveOne(seqjax.RandomCuts):
    """Old edges are cut with a probability above 1, after more steps than a check has."""

    rejected_by: ClassVar = {"shapes and dtypes"}

    def hazard(self, age, shared):
        return jnp.where(age > 20, 1.5, 0.1)

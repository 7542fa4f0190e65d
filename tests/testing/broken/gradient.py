"""Strategies that are wrong. `wrong` is told which checks must find it."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from support.wrong import wrong

import seqjax
from seqjax.gradients import Memory, bit_patterns, window_gradient
from seqjax.gradients.reverse.edges import segment_edges


@dataclass(frozen=True)
class Base(seqjax.Gradient):
    """Full backpropagation, from which the others are derived."""

    claim = "exact"
    of = "window"

    def estimate(self, problem, params, start, memory, batch, noise):
        return window_gradient(problem, params, start, batch)._replace(memory=memory)


@wrong("gradient", "loss and state", "exact: window's gradient", "state without floats")
class MeanOfTheSteps(Base):
    """Its loss is a mean over the steps, and not a sum."""

    def estimate(self, problem, params, start, memory, batch, noise):
        e = super().estimate(problem, params, start, memory, batch, noise)
        return e._replace(loss=e.loss / len(batch.weights))


@wrong("gradient", "exact: window's gradient", "state without floats", "gradients of params, state")
class TwiceTheGradient(Base):
    """Its gradient is twice as large."""

    def estimate(self, *args):
        e = super().estimate(*args)
        return e._replace(grads=jax.tree.map(lambda a: 2 * a, e.grads))


class Halves(seqjax.WeightedEdges):
    """Cuts half of the edges, from which the others are derived."""

    claim = "unbiased"
    weight = 2.0

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.bernoulli(key, 0.5, (num_steps,))

    def outcomes(self, problem, params, memory, num_steps):
        return bit_patterns(num_steps), jnp.full(2**num_steps, 0.5**num_steps)

    def edge_weights(self, noise, memory, num_steps):
        return jnp.where(noise, self.weight, 0.0), memory


@wrong("gradient", "unbiased: window's gradient", "gradients of params, state, xs")
class WithoutTheWeight(Halves):
    """The weight 1/π is left out, unless a field says otherwise."""

    weight: float = 1.0
    """The weight of an edge that is kept."""


@wrong("gradient", "draw follows outcomes")
class OneDrawForAllSteps(Halves):
    """One random number decides all cuts of a window."""

    def draw(self, key, problem, params, memory, num_steps):
        return jnp.full(num_steps, jax.random.bernoulli(key, 0.5))


@wrong("gradient", "draw follows outcomes", "rows and calls draw apart")
class OneDrawForAllRows(Halves):
    """It ignores its key."""

    def draw(self, key, problem, params, memory, num_steps):
        return super().draw(jax.random.key(0), problem, params, memory, num_steps)


@wrong("gradient", "shapes and dtypes")
class OneWeightTooFew(seqjax.WeightedEdges):
    """It has no weight for the first edge."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        return jnp.ones(num_steps - 1), memory


@wrong("gradient", "learned initial state")
class CutsTheStart(seqjax.WeightedEdges):
    """It cuts a learned initial state off."""

    claim = "biased"

    def edge_weights(self, noise, memory, num_steps):
        return jnp.ones(num_steps).at[0].set(0.0), memory


@wrong("gradient", "rows are independent", "state without floats", "two devices")
class Normalises(Base):
    """It divides by the sum of the weights, which is 1 over all devices, and not over each."""

    claim = "biased"

    def estimate(self, problem, params, start, memory, batch, noise):
        e = super().estimate(problem, params, start, memory, batch, noise)
        return e._replace(grads=jax.tree.map(lambda a: a / batch.weights.sum(), e.grads))


@wrong("gradient", "padding has no effect")
class LearnsFromPadding(Base):
    """What all rows share is a mean over the states in which a window ends, also of rows that end with padding."""

    claim = "biased"

    def init(self, problem, params, state, x=None):
        return Memory(shared=jnp.zeros(()))

    def estimate(self, problem, params, start, memory, batch, noise):
        e = super().estimate(problem, params, start, memory, batch, noise)
        ends = [a.mean() for a in jax.tree.leaves(e.state) if jnp.issubdtype(a.dtype, jnp.floating) and a.size]
        grads = jax.tree.map(lambda a: (1 + memory.shared) * a, e.grads)
        return e._replace(grads=grads, memory=Memory(shared=sum(ends, memory.shared)))


@wrong("gradient", "unbiased: window's gradient")
class OneDrawForAllCuts(seqjax.WeightedEdges):
    """One random number decides all cuts of a window, each of which is reweighted as if it were drawn alone."""

    claim = "unbiased"

    def draw(self, key, problem, params, memory, num_steps):
        return jax.random.bernoulli(key, 0.5)

    def outcomes(self, problem, params, memory, num_steps):
        return jnp.array([False, True]), jnp.array([0.5, 0.5])

    def edge_weights(self, noise, memory, num_steps):
        return jnp.where(segment_edges(num_steps, 3) == 1, 1.0, jnp.where(noise, 2.0, 0.0)), memory


@wrong("gradient", "shapes and dtypes")
class MetricsOfAnotherName(Base):
    """Its metrics have another name than it announces."""

    metric_names: ClassVar = ("gradient_weight",)

    def metrics(self, memory):
        return {"gradient_share": jnp.ones(())}


@wrong("gradient", "shapes and dtypes")
class CutsAboveOne(seqjax.RandomCuts):
    """Old edges are cut with a probability above 1, after more steps than a check has."""

    def hazard(self, age, shared):
        return jnp.where(age > 20, 1.5, 0.1)

"""Optimizers that are wrong. `rejected_by` names the check that must find it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import optax
from annotated_types import Interval

import seqjax
from seqjax.training import ScheduledOptimizer


def sgd(learning_rate=0.1):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)


@seqjax.register("optimizer", "without-the-number-of-updates")
@dataclass(frozen=True)
class WithoutTheNumberOfUpdates(seqjax.Optimizer):
    """Its `build` takes no argument."""

    rejected_by: ClassVar = {"build"}

    def build(self):
        return sgd()


@seqjax.register("optimizer", "returns-a-function")
@dataclass(frozen=True)
class ReturnsAFunction(seqjax.Optimizer):
    """It returns a function in place of a transformation."""

    rejected_by: ClassVar = {"build"}

    def build(self, num_updates):
        return lambda grads: grads


@seqjax.register("optimizer", "updates-in-half")
@dataclass(frozen=True)
class UpdatesInHalf(seqjax.Optimizer):
    """Its updates are bfloat16."""

    rejected_by: ClassVar = {"build"}

    def build(self, num_updates):
        half = optax.stateless(lambda updates, params: jax.tree.map(lambda a: a.astype(jnp.bfloat16), updates))
        return optax.chain(sgd(), half)


@seqjax.register("optimizer", "another-step-when-compiled")
@dataclass(frozen=True)
class AnotherStepWhenCompiled(seqjax.Optimizer):
    """It counts its calls in Python, which a compiled program does once."""

    rejected_by: ClassVar = {"compiled"}

    def build(self, num_updates):
        calls = []

        def shrink(updates, params):
            calls.append(None)
            return jax.tree.map(lambda a: a / len(calls), updates)

        return optax.chain(sgd(), optax.stateless(shrink))


@seqjax.register("optimizer", "keeps-the-first-parameters")
@dataclass(frozen=True)
class KeepsTheFirstParameters(seqjax.Optimizer):
    """It pulls towards the initial parameters, which it does not keep in its state."""

    rejected_by: ClassVar = {"state can be saved"}

    def build(self, num_updates):
        tx, first = sgd(), []

        def init(params):
            first.append(params)
            return tx.init(params)

        def update(updates, state, params):
            pulled = jax.tree.map(lambda g, p, q: g + 0.01 * (p - q), updates, params, first[0])
            return tx.update(pulled, state, params)

        return optax.GradientTransformation(init, update)


@seqjax.register("optimizer", "hides-its-learning-rate")
@dataclass(frozen=True)
class HidesItsLearningRate(seqjax.Optimizer):
    """Metrics cannot show its learning rate."""

    rejected_by: ClassVar = {"learning rate"}
    learning_rate: Annotated[float, Interval(gt=0)] = 0.1
    """The learning rate."""

    def build(self, num_updates):
        return optax.sgd(self.learning_rate)


@seqjax.register("optimizer", "another-learning-rate")
@dataclass(frozen=True)
class AnotherLearningRate(seqjax.Optimizer):
    """It does not use its field."""

    rejected_by: ClassVar = {"learning rate"}
    learning_rate: Annotated[float, Interval(gt=0)] = 0.01
    """The learning rate."""

    def build(self, num_updates):
        return sgd()


@seqjax.register("optimizer", "does-not-clip")
@dataclass(frozen=True)
class DoesNotClip(ScheduledOptimizer):
    """It has a field `clip_norm`, and does not clip."""

    rejected_by: ClassVar = {"clip_norm"}
    learning_rate: Annotated[float, Interval(gt=0)] = 0.1

    def build(self, num_updates):
        return sgd(self.learning_rate)


@seqjax.register("optimizer", "clips-its-updates")
@dataclass(frozen=True)
class ClipsItsUpdates(ScheduledOptimizer):
    """It clips the update, after the learning rate, in place of the gradient."""

    rejected_by: ClassVar = {"clip_norm"}
    learning_rate: Annotated[float, Interval(gt=0)] = 0.1

    def build(self, num_updates):
        clip = optax.identity() if self.clip_norm is None else optax.clip_by_global_norm(self.clip_norm)
        return optax.chain(sgd(self.learning_rate), clip)


@seqjax.register("optimizer", "goes-uphill")
@dataclass(frozen=True)
class GoesUphill(seqjax.Optimizer):
    """It adds the gradient."""

    rejected_by: ClassVar = {"downhill"}

    def build(self, num_updates):
        return optax.chain(sgd(), optax.scale(-1.0))


@seqjax.register("optimizer", "divides-by-the-updates-left")
@dataclass(frozen=True)
class DividesByTheUpdatesLeft(seqjax.Optimizer):
    """Its learning rate is infinite at the last update."""

    rejected_by: ClassVar = {"few updates"}

    def build(self, num_updates):
        return optax.inject_hyperparams(optax.sgd)(learning_rate=lambda n: 0.1 / (num_updates - n))

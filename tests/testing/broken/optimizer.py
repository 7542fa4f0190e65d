"""Optimizers that are wrong. `wrong` is told which checks must find it."""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from annotated_types import Interval
from support.wrong import wrong

import seqjax
from seqjax.training import ScheduledOptimizer


def sgd(learning_rate=0.1):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)


@wrong("optimizer", "build")
class UpdatesInHalf(seqjax.Optimizer):
    """Its updates are bfloat16."""

    def build(self, num_updates):
        half = optax.stateless(lambda updates, params: jax.tree.map(lambda a: a.astype(jnp.bfloat16), updates))
        return optax.chain(sgd(), half)


@wrong("optimizer", "compiled")
class AnotherStepWhenCompiled(seqjax.Optimizer):
    """It counts its calls in Python, which a compiled program does once."""

    def build(self, num_updates):
        calls = []

        def shrink(updates, params):
            calls.append(None)
            return jax.tree.map(lambda a: a / len(calls), updates)

        return optax.chain(sgd(), optax.stateless(shrink))


@wrong("optimizer", "state can be saved")
class KeepsTheFirstParameters(seqjax.Optimizer):
    """It pulls towards the initial parameters, which it does not keep in its state."""

    def build(self, num_updates):
        tx, first = sgd(), []

        def init(params):
            first.append(params)
            return tx.init(params)

        def update(updates, state, params):
            pulled = jax.tree.map(lambda g, p, q: g + 0.01 * (p - q), updates, params, first[0])
            return tx.update(pulled, state, params)

        return optax.GradientTransformation(init, update)


@wrong("optimizer", "learning rate")
class AnotherLearningRate(seqjax.Optimizer):
    """It does not use its field."""

    learning_rate: Annotated[float, Interval(gt=0)] = 0.01
    """The learning rate."""

    def build(self, num_updates):
        return sgd()


@wrong("optimizer", "clip_norm")
class ClipsItsUpdates(ScheduledOptimizer):
    """It clips the update, after the learning rate, in place of the gradient."""

    learning_rate: Annotated[float, Interval(gt=0)] = 0.1

    def build(self, num_updates):
        clip = optax.identity() if self.clip_norm is None else optax.clip_by_global_norm(self.clip_norm)
        return optax.chain(sgd(self.learning_rate), clip)


@wrong("optimizer", "downhill")
class GoesUphill(seqjax.Optimizer):
    """It adds the gradient."""

    def build(self, num_updates):
        return optax.chain(sgd(), optax.scale(-1.0))


@wrong("optimizer", "few updates")
class DividesByTheUpdatesLeft(seqjax.Optimizer):
    """Its learning rate is infinite at the last update."""

    def build(self, num_updates):
        return optax.inject_hyperparams(optax.sgd)(learning_rate=lambda n: 0.1 / (num_updates - n))

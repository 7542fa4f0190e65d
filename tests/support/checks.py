"""Checks that the tests of gradients share, besides those of `seqjax.testing`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import optax

import seqjax
from seqjax import Model, Plan, Problem, Sampler, Spec, Values
from seqjax.data import Stream
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import Learned, T

CUTS = {k: [float(t == 0 or t % k > 0) for t in range(T)] for k in range(1, T)}
"""Edge weights that cut at positive multiples of k."""


SGD, LEARNED = optax.sgd(0.5), Learned()


@dataclass(frozen=True)
class ThreeBatches(Sampler):
    """The first three batches of another sampler, so that all samplers share one compiled program."""

    sampler: Sampler
    batch_size: int = 4
    num_steps: int = 12

    def plan(self, bounds, rng):
        return Plan(*(part[:3] for part in self.sampler.plan(bounds, rng)))


def stream() -> Stream:
    """Three documents with a mask: devices score unequal numbers of steps, and rows start midway."""
    rng, n = np.random.default_rng(4), 180
    inputs, targets = rng.normal(size=(n, 2)), rng.normal(size=(n, 1))
    return Stream(inputs, targets, np.array([0, 60, 71, n]), rng.random(n) < 0.7)


def three_batches(sampler: str) -> Sampler:
    return ThreeBatches(seqjax.create("sampler", sampler, batch_size=4, num_steps=12))


def train(strategy, sampler: str, devices: int, model: Model = LEARNED) -> tuple[Any, dict[str, Any]]:
    """State and metrics after three updates."""
    problem = Problem.of(model, Spec(Values(2), Values(1)))
    options = {"sampler": three_batches(sampler), "gradient": strategy, "optimizer": SGD, "epochs": 1}
    return next(seqjax.train(problem, stream(), **options, devices=devices))


def check_training_on_devices(strategy, sampler: str, model: Model = LEARNED) -> float:
    """Training on one and on two devices ends in the same state."""
    (one, row), (two, other_row) = (train(strategy, sampler, devices, model) for devices in (1, 2))
    metrics = lambda row: [np.asarray(row[name]) for name in ("train_loss", "grad_norm", "tokens")]
    return assert_close((two, metrics(other_row)), (one, metrics(row)), f"{sampler}, two devices")

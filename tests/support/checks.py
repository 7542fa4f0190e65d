"""Checks that the tests of gradients share, besides those of `seqjax.testing`."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax
from seqjax import Model, Plan, Problem, Sampler, Spec, Values
from seqjax.data import Stream
from seqjax.gradients import Memory
from seqjax.testing.compare import Failed, assert_close
from seqjax.testing.proofs.calls import KEY, call
from seqjax.testing.proofs.cases import RESET, B, Learned, T, case
from seqjax.testing.proofs.oracle import Truth, truth
from seqjax.testing.quick_jit import quick_jit

CUTS = {k: [float(t == 0 or t % k > 0) for t in range(T)] for k in range(1, T)}
"""Edge weights that cut at positive multiples of k."""


def check_ages(strategy, num_calls=60) -> None:
    """If no edge is cut, the age of a carried row grows by T, and that of a reset row is T."""
    c = case("small")
    memory = Memory(rows=jnp.array([3, 100, 200, 7], jnp.int32))
    keys = jax.random.split(jax.random.key(KEY), num_calls)
    after = [call(strategy, c.problem, c.params, c.state, memory, c.windows[0], key).memory.rows for key in keys]
    oldest = np.max(after, 0).tolist()
    assert RESET[0] == (True, False, False, False)
    if oldest != [T, 100 + T, 200 + T, 7 + T]:
        raise Failed(f"ages after a window are at most {oldest}")


def check_edge_weights(problem: Problem, name: str) -> float:
    """A problem's `unroll` multiplies the tangent that enters step t by edge_weights[t]: none, [T] or [T, B]."""
    c, worst = case(name), 0.0
    entering = truth(name, 0, 1).state
    rng = np.random.default_rng(3)
    edge_weights_T, edge_weights_TB = rng.uniform(-1, 2, T), rng.uniform(-1, 2, (T, B))
    edge_weights_T[2] = edge_weights_TB[4, 1] = 0
    for edge_weights in (None, edge_weights_T, edge_weights_TB):
        array = None if edge_weights is None else jnp.asarray(edge_weights)
        got = _differentiated(problem, c.params, entering, c.windows[1], array)
        what = f"{name}, edge weights {np.shape(edge_weights)}"
        worst = max(worst, assert_close(got, truth(name, 1, 2, edge_weights), what))
    return worst


@functools.partial(quick_jit, static_argnums=0)
def _differentiated(problem, params, state, batch, edge_weights):
    def loss(params):
        start = problem.start(params, state, batch.reset)
        after, losses = problem.unroll(params, start, batch.xs, edge_weights)
        return jnp.sum(batch.weights * losses), after

    (total, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return Truth(total, grads, after)


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

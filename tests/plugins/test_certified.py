"""The relative bias that is estimated during training, against the gradients of the same windows."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import ravel, shared_gradients

import seqjax
from seqjax import Problem, train
from seqjax.data import Stream
from seqjax.gradients import RTRL, Certified, Dodge, Forward, Memory, Only, Truncated, init_memory
from seqjax.optimizers import SGD
from seqjax.samplers import Sequential
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import estimates, initial_memory
from seqjax.testing.proofs.cases import case
from seqjax.testing.quick_jit import quick_jit


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_the_bias_is_that_of_the_measured_windows(every, x64):
    """The equations of the docstring, from the gradients of three windows, of which one in `every` is measured."""
    strategy, c = Certified(Truncated(steps=2), every=every, forget=0.4), case("small")
    metrics = quick_jit(strategy.metrics)
    assert np.isnan(metrics(initial_memory(strategy, c.problem, c.params, c.state))["gradient_bias"])
    full, truncated = (
        np.array(shared_gradients(share)) for share in (lambda t, u: 1, lambda t, u: t // 2 == max(u, 0) // 2)
    )
    for w, found in enumerate(estimates(strategy, c)):
        assert_close(ravel(found.grads), truncated[w], f"window {w}: the strategy itself trains")
        measured = slice(0, w + 1, every)
        weights = 0.6 ** np.arange(w // every + 1)[::-1]
        squares = [weights @ np.sum(np.square(a[measured]), 1) for a in (truncated - full, full)]
        bias = metrics(found.memory)["gradient_bias"]
        assert float(bias) == pytest.approx(np.sqrt(squares[0] / squares[1]), rel=1e-9)


def trained(gradient):
    """The metrics of two epochs."""

    def step(w, h, x):
        h = jnp.tanh(w * h + x[0])
        return h, (h - x[1]) ** 2

    problem = Problem(step, lambda w, key=None: np.zeros((), np.float32))
    stream = Stream(*np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32), np.array([0, 40]))
    setup = {"sampler": Sequential(2, 5), "gradient": gradient, "optimizer": SGD(0.1), "epochs": 2}
    return [row for _, row in train(problem, stream, params=np.float32(0.7), **setup)]


@dataclass(frozen=True)
class Measured(Truncated):
    """A strategy with a metric, which its memory has."""

    metric_names = ("gradient_steps",)

    def init(self, problem, params, state, x=None):
        return Memory(shared=np.float32(self.steps))

    def metrics(self, memory):
        return {"gradient_steps": memory.shared}


def test_it_is_a_column_of_the_metrics():
    """So are the metrics of the strategy inside."""
    rows = trained(Certified(Measured(steps=4), every=2))
    assert len(rows) == 2
    assert all(row["gradient_bias"] > 0 and row["gradient_steps"] == 4 for row in rows)


@pytest.mark.parametrize("wrapping", [Only, Certified])
def test_the_metrics_of_the_inner_strategy_are_kept(wrapping):
    c, strategy = case("small"), wrapping(Measured(steps=8))

    @quick_jit
    def metrics(params, state):
        return strategy.metrics(init_memory(strategy, c.problem, params, state, len(state["h"])))

    found = metrics(c.params, c.state)
    assert set(found) == set(strategy.metric_names)
    assert float(found["gradient_steps"]) == 8


@dataclass(frozen=True)
class Negative(seqjax.RandomCuts):
    def hazard(self, age, shared):
        return jnp.where(age == 1, -0.5, 0.0)


@pytest.mark.parametrize(
    "wrapping",
    [Certified, Only, *(pytest.param(each, marks=pytest.mark.slow) for each in (Dodge, lambda strategy: strategy))],
)
def test_the_hazard_of_the_inner_strategy_is_checked(wrapping):
    with pytest.raises(seqjax.Error, match=r"hazard\(1\) = -0\.5, and the probability of a cut must be in \[0, 1\)"):
        trained(wrapping(Negative()))


def test_each_row_has_its_own_initial_state_as_with_the_strategy_alone():
    """The directions of a row are drawn for the parameters and for the initial state of this row."""

    def step(w, s, x):
        s = jnp.tanh(w * s + x)
        return s, s**2

    @quick_jit
    def both(params, state, xs):
        runs = [seqjax.estimate(step, each, argnums=(0, 1), batched=True) for each in (Certified(Forward()), Forward())]
        return [run(params, state, xs, key=jax.random.key(0)).grads for run in runs]

    found, want = both(np.float32(0.7), np.array([0.2, -0.4], np.float32), np.ones((2, 2), np.float32))
    assert_close(found, want, "certified")


@pytest.mark.parametrize("wrapping", [Certified, Dodge])
def test_the_inner_strategy_is_of_the_window(wrapping):
    with pytest.raises(seqjax.Error, match="must be of the window"):
        wrapping(strategy=RTRL())

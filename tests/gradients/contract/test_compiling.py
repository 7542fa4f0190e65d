"""What is compiled for a diagnostic is kept only where it cannot go stale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import Problem, Spec, Tokens
from seqjax.data import Stream
from seqjax.gradients import Full, Truncated
from seqjax.gradients.contract.compiling import jit_of
from seqjax.models import RNN
from seqjax.optimizers import SGD
from seqjax.samplers import Sequential

SCALE = 1.0
"""What a cell of a notebook would change."""


def step(params, state, x):
    state = jnp.tanh(SCALE * params * state + x)
    return state, state**2


ARGS = np.float32(0.7), np.full(2, 0.3, np.float32), np.ones((4, 2), np.float32)
PROBLEM = Problem(lambda params, state, x: step(params, state, x[0]), lambda params, key=None: jnp.float32(0.3))
STREAM = Stream(np.ones(4, np.float32), np.ones(4, np.float32), np.array([0, 4]))


def trained():
    options = {"sampler": Sequential(1, 4), "gradient": Full(), "optimizer": SGD(0.1), "epochs": 1}
    ((_, row),) = sj.train(PROBLEM, STREAM, params=jax.device_put(ARGS[0]), **options)
    return row["train_loss"]


def measured():
    params, state, xs = ARGS
    found = sj.measure(step, params, state, xs, Truncated(steps=2), batched=True)
    assert found.names == ("truncated steps=2",)  # a single strategy needs no list
    return [*found.norms.values()]


CALLS = {
    "value_and_grad": lambda: jax.jit(sj.estimate(step, Full(), batched=True))(*ARGS).grads,
    "lags": lambda: sj.lags(step, *ARGS, 2, batched=True).norms,
    "jacobians": lambda: sj.jacobians(step, *ARGS, 2, batched=True).mean_norm,
    "measure": measured,
    "evaluate": lambda: sj.evaluate(PROBLEM, ARGS[0], STREAM)["loss"],
    "train": trained,
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in ("measure", "jacobians", "lags"))) for n in CALLS]
)
def test_a_global_that_has_changed_is_seen(name, monkeypatch):
    """As by eager code, though the function is the same."""
    before = np.atleast_1d(CALLS[name]())
    monkeypatch.setattr(f"{__name__}.SCALE", 0.2)
    after = np.atleast_1d(CALLS[name]())
    assert (np.abs(after / before - 1) > 0.01).any()


def test_only_models_that_are_equal_share_a_program():
    """A model is a value: three calls trace it once. A step, or a loss of the user's own, may have changed."""
    spec, traced = Spec(Tokens(3)), []

    def function(problem, strategy, params):
        traced.append(problem)
        return params

    def traces(strategy, problem_of):
        before = len(traced)
        for _ in range(3):
            jit_of(function, problem_of(), strategy).eval_shape(np.ones(2))
        return len(traced) - before

    assert traces(Full(), lambda: Problem.of(RNN(hidden=2), spec)) == 1
    assert traces(Truncated(), lambda: Problem.of(RNN(hidden=2), spec)) == 1
    assert traces(Truncated(), lambda: Problem.of(RNN(hidden=2), spec)) == 0
    assert traces(Full(), lambda: Problem.of(RNN(hidden=2), spec, spec.targets.loss)) == 3
    assert traces(Full(), lambda: PROBLEM) == 3

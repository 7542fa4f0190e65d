"""What is compiled for a diagnostic is kept only where it cannot go stale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import Problem, Spec, Tokens
from seqjax.data import Stream
from seqjax.gradients.compiling import jit_of
from seqjax_gradients import Full, Truncated
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

SCALE = 1.0
"""What a cell of a notebook would change."""


def step(params, state, x):
    state = jnp.tanh(SCALE * params * state + x)
    return state, state**2


ARGS = jnp.float32(0.7), jnp.full(2, 0.3), jnp.ones((8, 2))
CALLS = {
    "value_and_grad": lambda: np.atleast_1d(sj.value_and_grad(step, Full())(*ARGS).grads),
    "lags": lambda: sj.lags(step, *ARGS, 3).norms,
    "jacobians": lambda: sj.jacobians(step, *ARGS, 3).mean_norm,
    "measure": lambda: np.array([*measured().norms.values()]),
    "evaluate": lambda: np.array(sj.evaluate(PROBLEM, ARGS[0], STREAM)["loss"]),
    "train": lambda: np.array(trained()["train_loss"]),
}


PROBLEM = Problem(lambda params, state, x: step(params, state, x[0]), lambda params, key=None: jnp.float32(0.3))
STREAM = Stream(np.ones(8, np.float32), np.ones(8, np.float32), np.array([0, 8]))


def trained():
    options = {"sampler": Sequential(2, 4), "gradient": Full(), "optimizer": SGD(0.1), "epochs": 1}
    ((_, row),) = sj.train(PROBLEM, STREAM, params=ARGS[0], **options)
    return row


def measured():
    params, state, xs = ARGS
    found = sj.measure(step, Truncated(steps=2), params=params, state=state, xs=xs)
    assert found.names == ("truncated steps=2",)  # a single strategy needs no list
    return found


@pytest.mark.parametrize("name", CALLS)
def test_a_global_that_has_changed_is_seen(name, monkeypatch):
    """As by eager code, though the function is the same."""
    before = CALLS[name]()
    monkeypatch.setattr(f"{__name__}.SCALE", 0.2)
    after = CALLS[name]()
    assert (np.abs(after / before - 1) > 0.01).any()


def test_models_that_are_equal_share_a_program():
    """A model is a value: three calls compile once."""
    traced = []

    def norm(problem, strategy, params):
        traced.append(problem)
        return jnp.sum(params["W_hq"])

    spec = Spec(Tokens(3))
    params = RNN(hidden=2).init(jax.random.key(0), spec)
    for _ in range(3):
        jit_of(norm, Problem.of(RNN(hidden=2), spec), Full())(params)
    assert len(traced) == 1
    jit_of(norm, Problem.of(RNN(hidden=2), spec), Truncated())(params)
    assert len(traced) == 2


def test_a_loss_of_the_users_own_may_change_too():
    spec, weight = Spec(Tokens(3)), {"value": 1.0}
    model = RNN(hidden=2)

    def loss(output, target):
        return weight["value"] * spec.targets.loss(output, target)

    params = model.init(jax.random.key(0), spec)
    problem = Problem.of(model, spec, loss)
    ids = jnp.zeros((5, 1), jnp.int32)
    args = params, jax.vmap(lambda _: problem.init_state(params))(jnp.arange(1)), (ids, ids)
    before = sj.lags(problem, *args, 2).norms
    weight["value"] = 2.0
    np.testing.assert_allclose(sj.lags(problem, *args, 2).norms, 2 * before, rtol=1e-6)

"""Edge weights on some state variables only, against `stop_gradient` on these variables in a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem, value_and_grad
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.claims import check_unbiased
from seqjax_gradients import Adaptive, Full, Only, Randomized, Truncated
from seqjax_models import LSTM

pytestmark = pytest.mark.usefixtures("x64")

T, B = 7, 2


def step(params, state, x):
    c = 0.9 * state["c"] + jnp.tanh(params["W"] @ state["h"] + x)
    return {"c": c, "h": jnp.sin(c * params["b"])}, jnp.sum(c**2)


def arguments():
    rng = np.random.default_rng(0)
    params = {"W": jnp.asarray(rng.normal(size=(3, 3))), "b": jnp.asarray(rng.normal(size=3))}
    state = {name: jnp.asarray(rng.normal(size=(B, 3))) for name in "ch"}
    return params, state, jnp.asarray(rng.normal(size=(T, B, 3)))


def loop(params, state, xs, cut, every):
    def total(params):
        s, loss = state, 0.0
        for t in range(T):
            if t and t % every == 0:
                s = s | {name: jax.lax.stop_gradient(s[name]) for name in cut}
            s, losses = jax.vmap(step, (None, 0, 0))(params, s, xs[t])
            loss += losses.mean() / T
        return loss

    return jax.value_and_grad(total)(params)


@pytest.mark.parametrize("cut", ["h", "c", "ch", ""])
def test_the_gradient_is_cut_through_the_chosen_variables(cut):
    strategy = Only(Truncated(steps=2), leaves=tuple(cut))
    found = jax.jit(value_and_grad(step, strategy))(*arguments())
    assert_close(found[:2], loop(*arguments(), cut or "ch", 2), repr(strategy))


def test_the_parts_of_an_lstm_are_named():
    """The gradient through c alone is neither that through both nor that through none."""
    spec = seqjax.Spec(seqjax.Tokens(4))
    problem = Problem.of(LSTM(hidden=3), spec)
    params = jax.tree.map(lambda a: a + 0.5, problem.model.init(jax.random.key(0), spec))
    ids = jax.random.randint(jax.random.key(1), (T + 1, B), 0, 4)
    args = params, problem.init_rows(params, B), (ids[:-1], ids[1:])

    def grads(strategy):
        return value_and_grad(problem, strategy)(*args).grads

    through_c = grads(Only(Truncated(steps=1), leaves=("h",)))
    assert_close(through_c, grads(Only(Truncated(steps=1), leaves=("layers.0.h",))), "the full name")
    assert_far(through_c, grads(Full()), "full")
    assert_far(through_c, grads(Truncated(steps=1)), "truncated")
    assert_close(grads(Only(Truncated(steps=1), leaves=("h", "c"))), grads(Truncated(steps=1)), "both")


def test_random_weights_on_some_variables_have_the_right_mean():
    strategy = Only(Randomized(keep_prob=0.6), leaves=("v",))
    assert strategy.claim == "unbiased"
    check_unbiased(strategy, cases=["foreign"])


def test_a_strategy_with_memory_keeps_it():
    strategy, alone = Only(Adaptive(max_steps=3, every=1)), Adaptive(max_steps=3, every=1)
    found, want = (jax.jit(value_and_grad(step, each))(*arguments()) for each in (strategy, alone))
    assert_close(found, want, "all variables")


def test_an_unknown_variable_is_named():
    with pytest.raises(seqjax.Error, match="the state has no variable 'x'; it has c, h"):
        value_and_grad(step, Only(leaves=("x",)))(*arguments())

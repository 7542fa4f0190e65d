"""Edge weights on some state variables only, against sums over the derivatives of the steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives, parts_by_step, ravel

import seqjax
from seqjax import Problem, estimate
from seqjax.gradients import Adaptive, Batch, Only, Randomized, Truncated
from seqjax.models import LSTM
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import Case
from seqjax.testing.proofs.claims import check_unbiased
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.wrapping.only import _chosen

pytestmark = pytest.mark.usefixtures("x64")

T, B = 7, 2


def step(params, state, x):
    c = 0.9 * state["c"] + jnp.tanh(params["w"] * state["h"][::-1] + x)
    return {"c": c, "h": jnp.sin(c * params["b"])}, jnp.sum(c**2)


def arguments():
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=2) for name in "bw"}
    return params, {name: rng.normal(size=(B, 2)) for name in "ch"}, rng.normal(size=(T, B))


@functools.cache
def of_window():
    params, state, xs = arguments()
    window = Batch(xs, None, np.zeros(B, bool), None)
    return derivatives(Case(Problem(step), params, state, [window], step, None))[0]


def by_parts(cut, every):
    """The gradient, where the derivatives by the variables in `cut` are 0 at positive multiples of `every`."""
    d, kept = of_window(), np.ones((T, 4))
    kept[every::every] = np.repeat([name not in cut for name in "ch"], 2)
    return parts_by_step(d._replace(J=d.J * kept[:, None], q=d.q * kept)).sum((0, 1, 2)) / (T * B)


@pytest.mark.parametrize("cut", ["h", *(pytest.param(cut, marks=pytest.mark.slow) for cut in ("c", "ch", ""))])
def test_the_gradient_is_cut_through_the_chosen_variables(cut):
    strategy = Only(Truncated(steps=2), leaves=tuple(cut))
    found = quick_jit(estimate(step, strategy, batched=True))(*arguments())
    assert_close(ravel(found.grads), by_parts(cut or "ch", 2), repr(strategy))


def test_the_parts_of_an_lstm_are_named():
    model, spec = LSTM(hidden=3), seqjax.Spec(seqjax.Tokens(4))
    state = jax.eval_shape(lambda key: model.init_state(model.init(key, spec), spec), jax.random.key(0))
    names = ("h",), ("layers.0.h",), ("c",), ("h", "c"), ()
    assert [_chosen(each, state) for each in names] == [
        (True, False), (True, False), (False, True), (True, True), (True, True)
    ]  # fmt: skip


@pytest.mark.slow
def test_random_weights_on_some_variables_have_the_right_mean():
    check_unbiased(Only(Randomized(keep_prob=0.6), leaves=("v",)), cases=["foreign"])


def test_the_claim_is_that_of_the_strategy():
    assert [Only(each).claim for each in (Randomized(), Truncated())] == ["unbiased", "biased"]


@pytest.mark.slow
def test_a_strategy_with_memory_keeps_it():
    strategy, alone = Only(Adaptive(max_steps=3, every=1)), Adaptive(max_steps=3, every=1)
    found, want = (quick_jit(estimate(step, each, batched=True))(*arguments()) for each in (strategy, alone))
    assert_close(found, want, "all variables")


def test_an_unknown_variable_is_named():
    with pytest.raises(seqjax.Error, match="the state has no variable 'x'; it has c, h"):
        estimate(step, Only(leaves=("x",)), batched=True)(*arguments())

"""A loss of weight 0 changes nothing, even where it or its derivative is NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Problem, create, estimate
from seqjax.diagnostics import lags, measure
from seqjax.gradients import Full, replace_unscored
from seqjax.gradients.steps.scored import split_step
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

T, B = 6, 2


def finite(params, state, x):
    """A scan body whose loss depends on parameters, state and input."""
    h = jnp.tanh(params["w"] * state["h"] + x["u"])
    return {"h": h, "n": state["n"] + 1}, params["a"] * (h - x["y"]) ** 2


def nan_in_places(params, state, x):
    """The same, with a loss that is NaN where x["bad"] is True, as are its derivatives by all that it depends on."""
    after, loss = finite(params, state, x)
    poison = jnp.sqrt(jnp.where(x["bad"], -1.0, 1.0) * (1 + after["h"] ** 2))
    return after, loss * jnp.where(x["bad"], poison, 1.0)


def setting():
    rng = np.random.default_rng(0)
    params = {"w": np.asarray(0.7), "a": np.asarray(1.3)}
    state = {"h": rng.normal(size=B), "n": np.zeros(B, np.int32)}
    bad = np.zeros((T, B), bool)
    bad[0, 0] = bad[2] = bad[T - 1, 1] = True
    xs = {"u": rng.normal(size=(T, B)), "y": rng.normal(size=(T, B)), "bad": bad}
    return params, state, xs, np.where(bad, 0.0, 0.1)


def first(tree, n):
    """The first entries of n axes."""
    return jax.tree.map(lambda a: a[(0,) * n], tree)


def check_nan_has_no_effect(run):
    """Compares what `run(params, state, xs, weights)` returns with NaN where the weight is 0, and without any NaN."""
    params, state, xs, weights = setting()
    got, want = (run(params, state, xs | {"bad": bad}, weights) for bad in (xs["bad"], np.zeros((T, B), bool)))
    assert_close(got, want, "NaN")


@functools.cache
def by(strategy, step=nan_in_places):
    """Loss, gradient and state, compiled."""
    run = estimate(step, strategy, batched=True)
    return quick_jit(lambda *args: run(*args[:3], weights=args[3], key=jax.random.key(0))[:3])


NAMES = ["full", "truncated", "randomized", "k1k2", "sliding", "rtrl", "uoro", "forward", "adaptive", "pes"]
QUICK = {"full", "rtrl"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NAMES])
def test_a_loss_of_weight_zero_may_be_nan(name, x64):
    """Its value and its derivatives by state and parameters are NaN, which 0 does not remove."""
    check_nan_has_no_effect(by(create("gradient", name, **({"k1": 2, "k2": 3} if name == "k1k2" else {}))))


@pytest.mark.parametrize(
    "wrap", [pytest.param(jax.jit, marks=pytest.mark.slow), jax.checkpoint], ids=["jit", "checkpoint"]
)
def test_a_step_that_is_one_equation(wrap, x64):
    """The equations of a jitted step are told apart. A step inside of jax.checkpoint is evaluated once more."""
    check_nan_has_no_effect(by(Full(), wrap(nan_in_places)))


def test_lags_see_no_unscored_loss(x64):
    check_nan_has_no_effect(
        quick_jit(lambda *args: lags(nan_in_places, *args[:3], 3, weights=args[3], batched=True)[:3])
    )


@pytest.mark.slow
def test_measure_sees_no_unscored_loss(x64):
    def run(params, state, xs, weights):
        return measure(nan_in_places, params, state, xs, [Full()], weights=weights, windows=2, batched=True).norms

    check_nan_has_no_effect(lambda *args: {name: np.asarray(norm) for name, norm in run(*args).items()})


def test_a_nan_that_counts_is_seen(x64):
    params, state, xs, weights = setting()
    loss, grads, _ = by(Full())(params, state, xs, weights + 0.1)
    assert np.isnan(loss)
    assert np.isnan(grads["w"])


def test_no_loss_counts_and_all_are_nan(x64):
    params, state, xs, weights = setting()
    loss, grads, _ = by(Full())(params, state, xs | {"y": np.full((T, B), np.nan)}, np.zeros_like(weights))
    assert_close((loss, grads), jax.tree.map(np.zeros_like, (loss, params)), "nothing is scored")


def test_a_jitted_step_is_not_evaluated_twice():
    """tanh stands once in both parts, as it does for a step without jit."""
    params, state, xs, _ = setting()
    args, counts = (first(state, 1), first(xs, 2)), []
    for step in (finite, jax.jit(lambda params, state, x: jax.jit(finite)(params, state, x))):
        advance, loss = split_step(step, params, *args)
        _, between = jax.eval_shape(advance, params, *args)
        jaxprs = jax.make_jaxpr(advance)(params, *args), jax.make_jaxpr(loss)(params, between)
        counts.append([str(jaxpr).count("tanh") for jaxpr in jaxprs])
    assert counts == [[1, 0], [1, 0]]


STEPS = {
    "a loss of state and parameters": finite,
    "a constant loss": lambda params, state, x: (state, jnp.zeros(())),
    "a loss of parameters alone": lambda params, state, x: (state, params["a"] ** 2),
    "a loss that is read": lambda params, state, x: (state, x["y"]),
    "a state that is the loss": lambda params, state, x: (state | {"h": params["a"] * x["u"]}, params["a"] * x["u"]),
    "a jitted step": jax.jit(finite),
}


def test_the_two_parts_of_a_step_are_the_step(x64):
    params, state, xs, _ = setting()

    @quick_jit
    def parts_and_steps(params, state, x):
        found = {}
        for name, step in STEPS.items():
            advance, loss = split_step(step, params, state, x)
            after, between = advance(params, state, x)
            want_after, want_loss = step(params, state, x)
            found[name] = (after, loss(params, between)), (want_after, jnp.asarray(want_loss))
        return found

    for name, (got, want) in parts_and_steps(params, first(state, 1), first(xs, 2)).items():
        assert_close(got, want, name, 0)


def test_unscored_values_are_those_of_the_first_scored_step():
    keys = jax.random.split(jax.random.key(0), 4)
    values = {"x": jnp.arange(4.0), "n": np.arange(4), "key": keys}
    replace = quick_jit(lambda scored: replace_unscored(values, scored))
    found = replace(np.array([False, True, False, True]))
    assert found["x"].tolist() == found["n"].tolist() == [1, 1, 1, 3]
    key_data = lambda keys: np.asarray(jax.random.key_data(keys))
    np.testing.assert_array_equal(key_data(found["key"]), key_data(keys)[[1, 1, 1, 3]])
    assert replace(np.zeros(4, bool))["x"].tolist() == [0, 0, 0, 0]


def test_a_problem_without_weights_is_scanned_as_it_is(x64):
    @quick_jit
    def both(params, state, xs):
        problem = Problem(finite)
        return problem.unroll(params, state, xs, scored=jnp.ones((T, B), bool)), problem.unroll(params, state, xs)

    assert_close(*both(*setting()[:3]), "all scored")

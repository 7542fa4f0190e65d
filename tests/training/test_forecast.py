"""Predictions and forecasts, compared with loops over a model of known step, and by metamorphic relations."""

import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.drawn import drawn_params

from seqjax import Error, Experiment, Model, Pairs, Run, Series, Spec, Text, Tokens, Values
from seqjax.models import GRU, MLP, RNN
from seqjax.tokenizers import Char, Standardize


class Memory(NamedTuple):
    """The state of `Leaky`: a leaky sum, and the number of steps."""

    h: jax.Array
    steps: jax.Array


@dataclass(frozen=True)
class Leaky(Model):
    """h_t = h_{t-1} / 2 + x_t, o_t = h_t A + t b: its state matters at every step, and contains an integer."""

    warmup: int = 0

    def init(self, key, spec):
        return {"A": jnp.zeros((spec.inputs.dim, spec.inputs.dim)), "b": jnp.zeros(spec.inputs.dim)}

    def init_state(self, params, spec, key=None):
        return Memory(jnp.zeros(spec.inputs.dim, params["A"].dtype), jnp.zeros((), jnp.int32))

    def step(self, params, state, x):
        new = Memory(0.5 * state.h + x, state.steps + 1)
        return new, new.h @ params["A"] + new.steps.astype(x.dtype) * params["b"]


def read(params, xs):
    """The state and the output of `Leaky` after these values, computed step by step."""
    h, steps, out = np.zeros(xs.shape[1]), 0, None
    for x in xs:
        h, steps = 0.5 * h + x, steps + 1
        out = h @ params["A"] + steps * params["b"]
    return h, steps, out


def go_on(params, xs, count):
    """The next `count` values that `Leaky` predicts, when it reads its own predictions."""
    h, steps, out = read(params, xs)
    found = []
    for _ in range(count):
        found.append(out)
        h, steps = 0.5 * h + out, steps + 1
        out = h @ params["A"] + steps * params["b"]
    return np.array(found)


def series(n, dim=1, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim))


def untrained(model, dim=1, codec=None):
    """A run of a model with parameters so large that its inputs matter."""
    spec = Spec(Values(dim))
    tokenizer = None if codec is None else Standardize()
    experiment = Experiment(dataset=Series(series(9, dim)), tokenizer=tokenizer, model=model)
    return Run(experiment, codec, spec, drawn_params(model, spec, scale=0.4))


X = series(20, 2)
"""The series of most tests, so that they share programs."""


@pytest.mark.parametrize(("warmup", "ahead", "n"), [(0, 1, 3), (0, 5, 12), (2, 2, 12), (2, 2, 3)])
def test_a_prediction_equals_a_loop_over_the_values_known_then(x64, warmup, ahead, n):
    """It is NaN if fewer than warmup + 1 values up to t - ahead are known."""
    run, x = untrained(Leaky(warmup), 2), series(n, 2)
    expected = np.full((n, 2), np.nan)
    for t in range(n):
        known = t - ahead + 1
        if known >= warmup + 1:
            expected[t] = go_on(run.params, x[:known], ahead)[-1]
    found = run.predict(x, ahead)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("n", "steps"), [(1, 1), (7, 25)])
def test_a_forecast_is_the_models_own_outputs_fed_back(x64, n, steps):
    run, x = untrained(Leaky(), 2), series(n, 2)
    expected = go_on(run.params, x, steps)
    np.testing.assert_allclose(run.forecast(x, steps), expected, rtol=1e-12)


def test_a_column_may_be_given_as_a_plain_list():
    run, x = untrained(Leaky()), series(6)
    np.testing.assert_array_equal(run.predict(x[:, 0].tolist(), 2), run.predict(x, 2))
    np.testing.assert_array_equal(run.forecast(x[:, 0], 3), run.forecast(x, 3))
    assert run.forecast(x, 3).shape == (3, 1)


@pytest.mark.parametrize(
    "model", [GRU(hidden=4, layers=2), pytest.param(MLP(lags=3, hidden=6), marks=pytest.mark.slow)], ids=["gru", "mlp"]
)
def test_results_are_in_the_units_of_the_series(model):
    """The same series in other units, a x + b, has the same predictions in those units."""
    a, b = np.array([250.0, 0.03]), np.array([-1e3, 7.0])
    runs = [(values, untrained(model, 2, Standardize().fit(Series(values)))) for values in (X, a * X + b)]
    for ask in (
        lambda values, run: run.predict(values, 1),
        lambda values, run: run.predict(values, 3),
        lambda values, run: run.forecast(values[:12], 4),
    ):
        plain, scaled = (ask(*each) for each in runs)
        np.testing.assert_allclose((scaled - b) / a, plain, rtol=1e-4, atol=1e-5)
        assert np.ptp(plain[np.isfinite(plain)]) > 1e-3, "a constant would prove little"


def of_pairs(model, spec, pairs):
    """An untrained run on pairs."""
    return Run(Experiment(dataset=pairs, model=model), None, spec, drawn_params(model, spec, scale=0.4))


@pytest.mark.parametrize("warmup", [0, 2])
def test_a_run_on_pairs_predicts_each_target_from_the_inputs_of_its_document(x64, warmup):
    """Equals a loop over each document. The spec is also that of a series, so the kind of data decides."""
    x, bounds = series(12, 2), [0, 1, 8, 8, 12]
    run = of_pairs(Leaky(warmup), Spec(Values(2)), Pairs(x, x))
    expected = np.full((12, 2), np.nan)
    for first, last in itertools.pairwise(bounds):
        for t in range(first + warmup, last):
            expected[t] = read(run.params, x[first : t + 1])[2]
    np.testing.assert_allclose(run.predict(Pairs(x, 0 * x, bounds=bounds)), expected, rtol=1e-12)
    one_document = np.array([read(run.params, x[: t + 1])[2] for t in range(12)])
    one_document[:warmup] = np.nan
    np.testing.assert_allclose(run.predict(x), one_document, rtol=1e-12)


def test_the_prediction_of_tokens_has_the_loss_that_evaluate_reports():
    ids = np.random.default_rng(0).integers(0, 5, 40)
    pairs = Pairs(ids, (ids + 1) % 7, spec=Spec(Tokens(5), Tokens(7)))
    run = of_pairs(GRU(hidden=3), pairs.spec, pairs)
    logits = run.predict(ids.tolist())
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -log_probabilities[np.arange(40), pairs.targets].mean()
    np.testing.assert_allclose(run.evaluate(pairs)["loss"], loss, rtol=1e-5)
    with pytest.raises(Error, match="inputs must be ids"):
        run.predict([4, 5])
    with pytest.raises(Error, match=r"trained on pairs.*: leave ahead = 2 out"):
        run.predict(ids, 2)


def test_each_run_names_the_methods_that_it_has():
    """A message never names a method that refuses as well."""
    x = series(9)
    pairs = of_pairs(RNN(hidden=2), Spec(Values(1)), Pairs(x, x))
    codec = Char().fit(Text("abcd"))
    params = drawn_params(RNN(hidden=2), Spec(codec.spec))
    text = Run(Experiment(dataset=Text("abcd"), model=RNN(hidden=2)), codec, Spec(codec.spec), params)
    for ask, instead in [
        (lambda: pairs.generate("a"), r"use predict\(x\)$"),
        (lambda: pairs.forecast(x, 2), r"use predict\(x\)$"),
        (lambda: text.forecast("ab", 2), r"use generate\(prompt, length\)"),
        (lambda: untrained(RNN(hidden=2)).generate("a"), r"use forecast\(history, steps\) or predict\(x\)$"),
    ]:
        with pytest.raises(Error, match=instead) as caught:
            ask()
        assert caught.value.exit_code == 2
    assert pairs.predict(x).shape == (9, 1)
    assert text.generate("a", 2)
    assert text.predict("ab").shape == (2, len(codec))


@pytest.mark.parametrize(
    ("x", "say"),
    [
        (series(9, 2), r"float\[n, 1\], n at least 3; found shape \(9, 2\)"),
        (series(2), r"n at least 3; found shape \(2, 1\)"),
        ([], "n at least 3"),
        ([1.0, 2.0, np.nan], "finite"),
        (series(9)[None], "not of shape"),
        (["a", "b", "c"], "numbers"),
    ],
    ids=["dim", "short", "empty", "nan", "axes", "text"],
)
def test_a_series_that_the_model_cannot_read_is_an_error(x, say):
    run = untrained(MLP(lags=3, hidden=2))
    for ask in (lambda: run.predict(x), lambda: run.forecast(x, 3)):
        with pytest.raises(Error, match=say) as caught:
            ask()
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_fewer_than_one_step_is_an_error(count):
    run, x = untrained(RNN(hidden=2)), series(9)
    with pytest.raises(Error, match=re.escape(f"ahead = {count!r} must be a whole number, at least 1")):
        run.predict(x, count)
    with pytest.raises(Error, match=re.escape(f"steps = {count!r} must be a whole number, at least 1")):
        run.forecast(x, count)

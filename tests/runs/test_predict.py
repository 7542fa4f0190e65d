"""`Run.predict` for texts and for lists; tests/training/test_forecast.py tests those of series and pairs."""

import itertools

import jax
import numpy as np
import pytest

from seqjax import Error, Experiment, Pairs, Run, Series, Text
from seqjax_models import GRU, MLP
from seqjax_samplers import Sequential
from seqjax_tokenizers import Standardize

X = np.random.default_rng(0).normal(size=(120, 2))
SMALL = {"sampler": Sequential(2, 8), "epochs": 1}


@pytest.fixture(scope="module")
def on_text():
    return Experiment(dataset=Text("the cat sat. " * 20), model=GRU(hidden=3), **SMALL).run()


def test_a_text_gives_the_logits_after_each_token(on_text):
    """As a loop over the model's step, anew in each document."""
    text = Text("the mat? ace", bounds=[0, 4, 4, 12])
    ids, expected = on_text.codec.encode(text.text), []
    for first, last in itertools.pairwise(text.bounds):
        state = on_text.experiment.model.init_state(on_text.params, on_text.spec)
        for i in ids[first:last]:
            state, output = on_text.experiment.model.step(on_text.params, state, jax.numpy.asarray(i))
            expected.append(output)
    found = on_text.predict(text)
    assert found.shape == (12, len(on_text.codec))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(on_text.predict("the "), found[:4])
    assert [len(each) for each in on_text.predict(["the ", "", "cat sat"])] == [4, 0, 7]


@pytest.mark.parametrize(("x", "message"), [(X, "predicts a string or a Text"), (Series(X), "predicts a string")])
def test_other_data_are_refused_by_a_run_on_text(on_text, x, message):
    with pytest.raises(Error, match=message):
        on_text.predict(x)
    with pytest.raises(Error, match="text, which is not predicted ahead: leave ahead = 2 out"):
        on_text.predict("the", ahead=2)


@pytest.mark.parametrize("model", [GRU(hidden=3), MLP(lags=3, hidden=3)], ids=["gru", "mlp with a warm-up"])
def test_a_list_is_read_one_by_one_in_the_units_of_the_data(model):
    pairs = Pairs(X, 1000 + 50 * X[:, :1])
    run = Experiment(dataset=pairs, tokenizer=Standardize(), model=model, **SMALL).run()
    found = run.predict([X[:7], X[7:30]])
    for each, part in zip(found, (X[:7], X[7:30]), strict=True):
        np.testing.assert_array_equal(each, run.predict(part))
    whole = run.predict(Pairs(X[:30], X[:30, :1], bounds=[0, 7, 30]))
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-6)
    assert abs(np.nanmean(whole) - 1000) < 100


def test_a_list_of_numbers_is_one_series(tmp_path):
    run = Experiment(dataset=Series(X[:, 0]), model=GRU(hidden=3), **SMALL).run(tmp_path / "run")
    values = X[:20, 0].tolist()
    np.testing.assert_array_equal(run.predict(values), Run.open(tmp_path / "run").predict(np.array(values)))

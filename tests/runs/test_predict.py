"""`Run.predict` for texts and for lists; tests/training/test_forecast.py tests those of series and pairs."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.drawn import drawn_params
from support.tiny import changed, refused

from seqjax import Pairs, Series, Text
from seqjax.datasets import TextFile
from seqjax.models import MLP
from seqjax.runs.run import job_of, run_of
from seqjax.testing.quick_jit import quick_jit
from seqjax.tokenizers import Standardize

X = np.random.default_rng(0).normal(size=(120, 2))


def untrained(**fields):
    """A run with drawn parameters."""
    run = run_of(job_of(changed(**fields)))
    run.params = drawn_params(run.experiment.model, run.spec)
    return run


@pytest.fixture(scope="module")
def on_text():
    return untrained()


def test_a_text_gives_the_logits_after_each_token(on_text, tmp_path):
    """As a loop over the model's step, anew in each document."""
    text = Text("the mat? ace", bounds=[0, 4, 4, 12])
    ids, expected = on_text.codec.encode(text.text), []
    model = on_text.experiment.model
    start, step = quick_jit(lambda params: model.init_state(params, on_text.spec)), quick_jit(model.step)
    for first, last in itertools.pairwise(text.bounds):
        state = start(on_text.params)
        for i in ids[first:last]:
            state, output = step(on_text.params, state, i)
            expected.append(output)
    found = on_text.predict(text)
    assert found.shape == (12, len(on_text.codec))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(on_text.predict("the "), found[:4])
    Path(tmp_path, "the.txt").write_text("the ")
    dataset = TextFile(path=str(tmp_path / "the.txt"))
    np.testing.assert_array_equal(on_text.predict(dataset), found[:4])
    assert on_text.evaluate(dataset) == on_text.evaluate(Text("the "))
    assert [len(each) for each in on_text.predict(["the ", "", "cat sat"])] == [4, 0, 7]


@pytest.mark.parametrize("x", [X, Series(X), 3])
def test_other_data_are_refused_by_a_run_on_text(on_text, x):
    with refused("predicts a string or a Text", 2):
        on_text.predict(x)
    with refused("text, which is not predicted ahead: leave ahead = 2 out", 2):
        on_text.predict("the", ahead=2)


def test_a_list_is_read_one_by_one_in_the_units_of_the_data():
    run = untrained(
        dataset=Pairs(X, 1000 + 50 * X[:, :1]), tokenizer=Standardize(), model=MLP(lags=3, hidden=3)
    )  # which has a warm-up
    found = run.predict([X[:7], X[7:30]])
    for each, part in zip(found, (X[:7], X[7:30]), strict=True):
        np.testing.assert_array_equal(each, run.predict(part))
    whole = run.predict(Pairs(X[:30], X[:30, :1], bounds=[0, 7, 30]))
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-6)
    assert np.isnan(whole[[0, 1, 7, 8]]).all()
    assert not np.isnan(whole[[2, 9]]).any()
    assert abs(np.nanmean(whole) - 1000) < 100

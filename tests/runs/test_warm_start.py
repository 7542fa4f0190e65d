"""Runs that start from given parameters, or from those of another run."""

import dataclasses
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.crash import NoFigure, crash_after

import seqjax
from seqjax import Error, Experiment, Pairs, Run, Series, Text
from seqjax.runs.progress import start_line
from seqjax_models import GRU, RNN
from seqjax_optimizers import SGD, Adam
from seqjax_samplers import Sequential
from seqjax_tokenizers import Char, Standardize, Word

LETTERS, OTHER = "the cat sat on the mat. ", "at the mat the cat; "
BASE = Experiment(
    dataset=Text(LETTERS * 20), tokenizer=Char(), model=RNN(hidden=3), sampler=Sequential(2, 8), optimizer=SGD(0.5),
    epochs=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)


@pytest.fixture
def source(tmp_path):
    return str(BASE.run(tmp_path / "source").path)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_starts_from_the_parameters_of_another_one(source):
    """With a learning rate so small that nothing changes, it ends with them."""
    run = dataclasses.replace(BASE, seed=7, optimizer=SGD(1e-30), init_from=source).run()
    same(run.params, Run.open(source).params)
    assert run.metrics[0]["train_loss"] == pytest.approx(
        seqjax.evaluate(run.problem, run.params, run.prepared.streams["train"])["loss"], rel=0.1
    )


def test_the_share_of_a_text_that_the_vocabulary_does_not_know_is_said(source):
    text = "the cat; " * 60  # an unknown character in nine
    run = dataclasses.replace(BASE, dataset=Text(text), init_from=source).run()
    assert re.fullmatch(
        rf"{source}, last epoch · with its vocabulary · 11\.\d+% of the text is unknown to it \(--init-anew .*\)",
        start_line(run),
    )
    assert run.first_tokens(7) == "the cat"
    assert run.first_tokens(8) == ""
    assert set(run.samples) == {"greedy", "temperature 0.8"}, "with an empty prompt"
    known = dataclasses.replace(BASE, seed=1, init_from=source).run()
    assert start_line(known) == f"{source}, last epoch · with its vocabulary"


def test_another_text_is_read_with_the_vocabulary_of_the_other_run(source):
    """Characters that it does not have become <unk>."""
    experiment = dataclasses.replace(BASE, dataset=Text(OTHER * 20), optimizer=SGD(1e-30), init_from=source)
    run = experiment.run()
    first = Run.open(source)
    assert run.codec.tokens == first.codec.tokens
    assert run.codec.encode(";").tolist() == [0]
    same(run.params, first.params)
    assert run.evaluate(Text(LETTERS * 3)) == pytest.approx(first.evaluate(Text(LETTERS * 3)))


def test_the_scale_of_the_other_run_is_used_too(tmp_path):
    series = np.cumsum(np.random.default_rng(0).normal(size=400))
    base = Experiment(
        dataset=Series(series), tokenizer=Standardize(), model=RNN(hidden=3), sampler=Sequential(2, 8), epochs=1
    )
    base.run(tmp_path / "source")
    run = dataclasses.replace(base, dataset=Series(series + 100), init_from=str(tmp_path / "source")).run()
    assert run.codec == Run.open(tmp_path / "source").codec


@pytest.mark.parametrize(("anew", "mean", "shared"), [((), 0.0, " · with its scale"), (("tokenizer",), 100.0, "")])
def test_the_scale_can_be_that_of_the_own_data(tmp_path, capsys, anew, mean, shared):
    series = np.random.default_rng(0).normal(size=400)
    base = Experiment(
        dataset=Series(series), tokenizer=Standardize(), model=RNN(hidden=3), sampler=Sequential(2, 8), epochs=1
    )
    source = base.run(tmp_path / "source")
    experiment = dataclasses.replace(
        base, dataset=Series(series + 100), init_from=str(source.path), init_anew=anew, optimizer=SGD(1e-30)
    )
    run = experiment.run(progress=True)
    assert f"\nstart    {source.path}, last epoch{shared}\n" in capsys.readouterr().out
    assert abs(run.codec.decode(np.zeros((1, 1))) - mean).item() < 0.2
    same(run.params, source.params)


def test_the_vocabulary_can_be_that_of_the_own_text(source):
    """It has fewer tokens, so that what depends on them does not fit."""
    experiment = dataclasses.replace(BASE, dataset=Text(OTHER * 20), init_from=source, init_anew=("tokenizer",))
    with pytest.raises(Error, match="--init-anew tokenizer,W_hq,b_q,layer_0/W_xh"):
        experiment.run()
    names = ("tokenizer", "W_hq", "b_q", "layer_0/W_xh")
    assert ";" in dataclasses.replace(experiment, init_anew=names).run().codec.tokens


def test_a_scale_of_other_widths_or_sides_is_not_used(tmp_path):
    """Broadcast over other columns, it would be wrong without an error."""
    rng = np.random.default_rng(0)
    base = Experiment(
        dataset=Pairs(rng.normal(size=(400, 1)), rng.normal(size=400)), tokenizer=Standardize(), model=RNN(hidden=3),
        sampler=Sequential(2, 8), epochs=1,
    )  # fmt: skip
    base.run(tmp_path / "source")
    wide = Pairs(rng.normal(size=(400, 3)) * [1, 100, 10_000], rng.normal(size=400))
    anew = {"init_from": str(tmp_path / "source"), "init_anew": ("layer_0/W_xh",)}
    run = dataclasses.replace(base, dataset=wide, **anew).run()
    assert run.codec == dataclasses.replace(base, dataset=wide).run().codec
    assert run.codec != Run.open(tmp_path / "source").codec
    series = dataclasses.replace(base, dataset=Series(rng.normal(size=400)), init_from=str(tmp_path / "source")).run()
    assert series.forecast(np.zeros(5), 2).shape == (2, 1)
    with pytest.raises(Error, match="do not fit this model"):
        dataclasses.replace(base, dataset=Text("abc " * 200), tokenizer=None, init_from=str(tmp_path / "source")).run()


def test_the_best_parameters_of_the_other_run(tmp_path):
    rng = np.random.default_rng(0)
    noise = Pairs(rng.normal(size=(120, 2)), rng.normal(size=120))
    base = Experiment(
        dataset=noise, train=60, heldout=60, model=RNN(hidden=8), sampler=Sequential(2, 10), optimizer=Adam(0.03),
        epochs=12, keep="best",
    )  # fmt: skip
    source = base.run(tmp_path / "source")
    assert source.best_epoch < 12
    still = dataclasses.replace(base, keep="last", epochs=1, optimizer=SGD(1e-30), init_from=str(tmp_path / "source"))
    same(still.run().params, source.params)
    same(dataclasses.replace(still, init_which="best").run().params, source.best_params)


def test_what_does_not_fit_is_named_and_drawn_anew_only_if_asked(source):
    larger = dataclasses.replace(BASE, tokenizer=Word(), init_from=source)
    with pytest.raises(
        Error, match="do not fit this model\nTo draw these anew: --init-anew W_hq,b_q,layer_0/W_xh"
    ) as caught:
        larger.run()
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["W_hq", "b_q", "layer_0/W_xh"]
    names = ("W_hq", "b_q", "layer_0/W_xh")
    run = dataclasses.replace(larger, init_anew=names, optimizer=SGD(1e-30)).run()
    first = Run.open(source).params
    drawn = dataclasses.replace(larger, init_from=None, optimizer=SGD(1e-30)).run().params
    same(run.params["layer_0"]["W_hh"], first["layer_0"]["W_hh"])
    for one, other in ((run.params["W_hq"], drawn["W_hq"]), (run.params["layer_0"]["W_xh"], drawn["layer_0"]["W_xh"])):
        same(one, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": GRU(hidden=3)}, r"layer_0/W_hh: it has float32\[3, 3\], and needs float32\[3, 9\]"),
        ({"model": RNN(hidden=3, layers=2)}, r"layer_1/W_hh: it has nothing, and needs"),
        ({"init_anew": ("W_qh",)}, r"W_qh: the model has no such parameter; did you mean 'W_hq'"),
        ({"init_from": "nowhere"}, r"nowhere holds no run"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_a_folder_is_made(tmp_path, source, fields, message):
    experiment = dataclasses.replace(BASE, **{"init_from": source, **fields})
    with pytest.raises(Error) as caught:
        experiment.run(tmp_path / "run")
    text = "\n".join([str(caught.value), *caught.value.problems])
    assert re.search(message, text), text
    assert not (tmp_path / "run").exists()


def test_tokens_that_mean_something_else_are_noticed(source):
    """Another tokenizer may have as many tokens."""
    words = Text(" ".join(f"x{letter}" for letter in "abcdefghijk") + " xa" * 300)
    other = dataclasses.replace(BASE, dataset=words, tokenizer=Word(), init_from=source)
    assert len(other.prepare().codec) == len(Run.open(source).codec)
    with pytest.raises(Error, match=r"the tokenizer is not that of .*: token 1 is ' ' there"):
        other.run()


def test_init_anew_needs_init_from():
    with pytest.raises(Error, match="give init_from too"):
        dataclasses.replace(BASE, init_anew=("W_hq",))


def test_given_parameters(tmp_path):
    """They belong to the run, although its config does not hold them."""
    params = jax.tree.map(lambda a: a + 0.5, BASE.run().params)
    still = dataclasses.replace(BASE, optimizer=SGD(1e-30))
    same(still.run(params=params).params, params)
    run = BASE.run(tmp_path / "run", params=params)
    same(BASE.run(params=params).params, run.params)
    assert BASE.run(tmp_path / "run").metrics == run.metrics, "it is opened"
    with pytest.raises(Error, match="leave one of them out"):
        dataclasses.replace(BASE, init_from=str(tmp_path / "run")).run(params=params)
    for other in (GRU(hidden=3).init(jax.random.key(0), run.spec), {"W": jnp.zeros(3)}):
        with pytest.raises(Error, match="the parameters do not fit the model rnn hidden=3") as caught:
            BASE.run(params=other)
        assert "layer_0/W_hh" in "\n".join(caught.value.problems)


def test_a_run_that_was_begun_with_other_parameters_does_not_go_on(tmp_path, monkeypatch):
    base = dataclasses.replace(BASE, epochs=3)
    params = jax.tree.map(lambda a: a + 0.5, BASE.run().params)
    with crash_after(monkeypatch, 1):
        base.run(tmp_path / "run", params=params, checkpoint_seconds=0)
    with pytest.raises(Error, match="begun in another environment") as caught:
        base.run(tmp_path / "run")
    assert caught.value.problems[0].startswith("initial_params_sha256: then ")
    same(base.run(tmp_path / "run", params=params).params, base.run(params=params).params)


def test_a_module_of_equinox_is_trained_in_an_experiment():
    """The same as by `training`, from the module's own parameters."""
    x = np.random.default_rng(0).normal(size=(300, 3))
    model, params = seqjax.from_equinox(eqx.nn.GRUCell(3, 3, key=jax.random.key(0)))
    experiment = Experiment(dataset=Pairs(x, np.roll(x, 1, 0)), model=model, sampler=Sequential(2, 8), epochs=3)
    run = experiment.run(params=params)
    losses = run.metric("train_loss")
    assert losses[-1] < losses[0]
    *_, (state, _) = seqjax.train(
        run.problem, run.prepared.streams["train"], sampler=experiment.sampler, gradient=experiment.gradient,
        optimizer=experiment.optimizer, epochs=3, params=params,
    )  # fmt: skip
    same(run.params, state.params)
    assert run.predict(x).shape == (300, 3)
    with pytest.raises(Error, match=r"cannot make initial parameters\n.*run\(params=params\)"):
        experiment.run()
    with pytest.raises(Error, match="a config cannot hold what was given in Python as: model"):
        experiment.run("nowhere", params=params)

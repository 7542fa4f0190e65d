"""Runs that start from given parameters, or from those of another run.

Most tests look at a run that is prepared, which has the parameters and the codec that training starts with.
"""

import re

import jax
import numpy as np
import pytest
from support.crash import crash_after
from support.drawn import drawn_params
from support.tiny import FULL, TEXT, changed, refused

from seqjax import Experiment, Pairs, Run, Series, Text
from seqjax.models import GRU, RNN
from seqjax.runs.job import prepare
from seqjax.runs.progress import Display, start_line
from seqjax.runs.run import job_of, run_of
from seqjax.samplers import Sequential
from seqjax.tokenizers import Char, Standardize, Word
from seqjax.training.initial import InitialState

BASE = changed(tokenizer=Char(), epochs=1)
OTHER = "at the mat the cat; " * 24


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return str(BASE.run(tmp_path_factory.mktemp("source") / "run").path)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def starts(experiment, source=None):
    """The codec and the parameters with which a training starts; `source`: the run `init_from`, if it has no folder."""
    job = prepare(experiment, source) if source else job_of(experiment)
    drawn = InitialState(job.problem, experiment.setup(), 1).compute().params
    return job.data.codec, drawn if job.fit.params is None else job.fit.params


def test_a_run_starts_from_the_parameters_of_another_one(source):
    """Its first gradients are those there, and not those of the seed."""
    run = changed(BASE, seed=7, init_from=source).run()
    same(run.params, changed(BASE, seed=7).run(params=Run.open(source).params).params)
    other = changed(BASE, seed=7).run()
    assert run.metrics[0]["train_loss"] < other.metrics[0]["train_loss"] - 0.5, "it has learned already"


def test_the_share_of_a_text_that_the_vocabulary_does_not_know_is_said(source, capsys):
    text = "the cat; " * 60  # an unknown character in nine
    job = job_of(changed(BASE, dataset=Text(text), init_from=source))
    run = run_of(job)
    assert re.fullmatch(
        rf"{source}, last epoch · with its vocabulary · 11\.\d+% of the text is unknown to it \(--init-anew .*\)",
        start_line(job),
    )
    assert run.first_tokens(7) == "the cat"
    assert run.first_tokens(8) == ""
    run.params = Run.open(source).params
    assert set(run.samples) == {"greedy", "temperature 0.8"}, "with an empty prompt"
    known = job_of(changed(BASE, seed=1, init_from=source))
    with Display(run_of(known), known, True):
        assert f"\nstart    {source}, last epoch · with its vocabulary\n" in capsys.readouterr().out


def test_another_text_is_read_with_the_vocabulary_of_the_other_run(source):
    """Characters that it does not have become <unk>."""
    first = Run.open(source)
    codec, params = starts(changed(BASE, dataset=Text(OTHER), init_from=source))
    assert codec.tokens == first.codec.tokens
    assert codec.encode(";").tolist() == [0]
    same(params, first.params)


SERIES = np.random.default_rng(0).normal(size=400)
SCALED = Experiment(
    dataset=Series(SERIES), tokenizer=Standardize(), model=RNN(hidden=8), sampler=Sequential(2, 8), epochs=1
)


def untrained(experiment):
    """A run with drawn parameters."""
    run = run_of(job_of(experiment))
    run.params = drawn_params(experiment.model, run.spec)
    return run


def test_the_scale_of_the_other_run_is_used_or_that_of_the_own_data(tmp_path):
    source = untrained(SCALED)
    (tmp_path / "codec.json").write_text(source.codec_text)
    base = changed(SCALED, dataset=Series(SERIES + 100), init_from=str(tmp_path))
    codec, params = starts(base, source)
    assert codec == source.codec
    same(params, source.params)
    assert start_line(prepare(base, source)) == f"{tmp_path}, last epoch · with its scale"
    anew = changed(base, init_anew=("tokenizer",))
    own, params = starts(anew, source)
    assert own == changed(base, init_from=None).prepare().codec != codec
    same(params, source.params)
    assert start_line(prepare(anew, source)) == f"{tmp_path}, last epoch"
    # Pairs of the same widths have scales of two sides.
    pairs = changed(base, dataset=Pairs(SERIES, 2 * SERIES))
    assert starts(pairs, source)[0] == changed(pairs, init_from=None).prepare().codec


def test_a_scale_of_other_widths_is_not_used():
    """Broadcast over other columns, it would be wrong without an error."""
    rng = np.random.default_rng(0)
    source = untrained(changed(SCALED, dataset=Pairs(rng.normal(size=(400, 1)), SERIES)))
    wide = Pairs(rng.normal(size=(400, 3)) * [1, 100, 10_000], SERIES)
    base = changed(SCALED, init_from="there", init_anew=("layer_0/W_xh",))
    codec, _ = starts(changed(base, dataset=wide), source)
    assert codec == changed(SCALED, dataset=wide).prepare().codec != source.codec
    with refused("do not fit this model", 2):
        starts(changed(base, dataset=Text(TEXT), tokenizer=None, init_anew=()), source)


def test_the_best_parameters_of_the_other_run(whole):
    assert whole.best_epoch == 1
    base = changed(FULL, keep="last", init_from=str(whole.path))
    same(starts(base)[1], whole.params)
    same(starts(changed(base, init_which="best"))[1], whole.best_params)
    assert not np.array_equal(whole.params["W_hq"], whole.best_params["W_hq"])


def test_what_does_not_fit_is_named_and_drawn_anew_only_if_asked(source):
    names = ("W_hq", "b_q", "layer_0/W_xh")
    larger = changed(BASE, tokenizer=Word(), init_from=source)
    with refused(f"do not fit this model\nTo draw these anew: --init-anew {','.join(names)}", 2) as caught:
        starts(larger)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [*names]
    with refused("--init-anew tokenizer,W_hq,b_q,layer_0/W_xh", 2):  # fewer tokens
        starts(changed(BASE, dataset=Text(OTHER), init_from=source, init_anew=("tokenizer",)))
    _, params = starts(changed(larger, seed=3, init_anew=names))
    _, drawn = starts(changed(larger, seed=3, init_from=None))
    same(params["layer_0"]["W_hh"], Run.open(source).params["layer_0"]["W_hh"])
    for one, other in ((params["W_hq"], drawn["W_hq"]), (params["layer_0"]["W_xh"], drawn["layer_0"]["W_xh"])):
        same(one, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": RNN(hidden=8, layers=2)}, r"layer_1/W_hh: it has nothing, and needs"),
        ({"init_anew": ("W_qh",)}, r"W_qh: the model has no such parameter; did you mean 'W_hq'"),
        ({"init_from": "nowhere"}, r"nowhere holds no run"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_a_folder_is_made(tmp_path, source, fields, message):
    with refused(".", 2) as caught:
        changed(BASE, **{"init_from": source, **fields}).run(tmp_path / "run")
    assert re.search(message, "\n".join([str(caught.value), *caught.value.problems]))
    assert not (tmp_path / "run").exists()


def test_tokens_that_mean_something_else_are_noticed(source):
    """Another tokenizer may have as many tokens."""
    words = Text(" ".join(f"x{letter}" for letter in "abcdefghijk") + " xa" * 300)
    other = changed(BASE, dataset=words, tokenizer=Word(), init_from=source)
    assert len(other.prepare().codec) == len(Run.open(source).codec)
    with refused(r"the tokenizer is not that of .*: token 1 is ' ' there", 2):
        starts(other)
    starts(changed(other, init_anew=("tokenizer",)))


@pytest.mark.parametrize("fields", [{"init_anew": ("W_hq",)}, {"init_which": "best"}])
def test_these_fields_need_init_from(fields):
    with refused("cannot be made", 2) as caught:
        changed(BASE, **fields)
    assert re.search(f"{next(iter(fields))}: .* give init_from too", caught.value.problems[0])


def test_given_parameters_belong_to_the_run_although_its_config_does_not_hold_them(tmp_path, monkeypatch, source):
    base, params = (
        changed(BASE, epochs=2),
        jax.tree.map(lambda a: a + np.float32(0.5), jax.device_get(Run.open(source).params)),
    )
    same(job_of(base, params=params).fit.params, params)
    with crash_after(monkeypatch, 2):
        base.run(tmp_path / "run", params=params, checkpoint_seconds=0)
    with refused("begun in another environment") as caught:
        base.run(tmp_path / "run")
    assert caught.value.problems[0].startswith("initial_params_sha256: then ")
    run = base.run(tmp_path / "run", params=params)
    same(run.params, base.run(params=params).params)
    assert base.run(tmp_path / "run").metrics == run.metrics, "it is opened"
    with refused("leave one of them out", 2):
        changed(base, init_from=str(tmp_path / "run")).run(params=params)
    for other in (drawn_params(GRU(hidden=8), run.spec), {"W": np.zeros(3, np.float32)}):
        with refused("the parameters do not fit the model rnn hidden=8", 2) as caught:
            base.run(params=other)
        assert "layer_0/W_hh" in "\n".join(caught.value.problems)

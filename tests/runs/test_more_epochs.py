"""A run goes on for more epochs, and ends with the bits that it would have if they had been asked for at once."""

import dataclasses
import json

import pytest
from support.crash import NoFigure, contents, crash_after, experiment, results
from support.shell import call

import seqjax
from seqjax import Error, Experiment, Run, Text, sweep
from seqjax.runs import checkpoint
from seqjax_models import RNN
from seqjax_optimizers import SGD, Adam
from seqjax_samplers import Sequential

TINY = Experiment(
    dataset=Text("the cat sat on the mat. " * 20), model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=Adam(0.05),
    epochs=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)


def longer(base, epochs=5, **fields):
    return dataclasses.replace(base, epochs=epochs, **fields)


CONSTANT = {"optimizer": SGD(0.5)}
KINDS = {
    "tiny": TINY,
    "rtrl": experiment("rnn, rtrl, adamw"),
    "dropout": experiment("lstm, dropout, randomized, adam", **CONSTANT),
    "windows": experiment("mlp, windows"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "tiny")) for name in KINDS])
def test_a_finished_run_goes_on_to_the_same_bits(tmp_path, name):
    base = KINDS[name]
    for epochs in (2, 3, 5):
        longer(base, epochs).run(tmp_path / "run")
    longer(base).run(tmp_path / "once")
    assert results(tmp_path / "run") == results(tmp_path / "once")
    assert Run.open(tmp_path / "run").experiment == Run.open(tmp_path / "once").experiment


def test_an_interrupted_run_goes_on_to_more_epochs(tmp_path, monkeypatch):
    with crash_after(monkeypatch, 1):
        TINY.run(tmp_path / "run", checkpoint_seconds=0)
    longer(TINY).run(tmp_path / "run")
    longer(TINY).run(tmp_path / "once")
    assert results(tmp_path / "run") == results(tmp_path / "once")


def test_the_last_epoch_of_the_shorter_run_counts_as_not_evaluated(tmp_path):
    """Its evaluation was out of turn."""
    base = longer(TINY, 3, evaluate_every=2, metrics=("accuracy",))
    base.run(tmp_path / "run")
    longer(base).run(tmp_path / "run")
    longer(base).run(tmp_path / "once")
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert [json.loads(line)["heldout_loss"] is None for line in text.splitlines()] == [True, False, True, False, False]
    assert results(tmp_path / "run") == results(tmp_path / "once")


@pytest.mark.parametrize(
    ("fields", "more", "reason"),
    [
        ({"optimizer": SGD(0.5, schedule="cosine")}, {}, "depend on the number of epochs, by a schedule"),
        ({"optimizer": SGD(0.5, warmup=0.1)}, {}, "depend on the number of epochs, by a schedule"),
        ({"evaluate_every": 3, "keep": "best"}, {}, "is no multiple of evaluate_every = 3"),
        ({"evaluate_every": 3, "stop_after": 3}, {}, "is no multiple of evaluate_every = 3"),
        ({}, {"seed": 1}, "seed: there 0, asked for 1"),
        ({}, {"epochs": 1}, "epochs: there 2, asked for 1"),
    ],
)
def test_what_would_not_be_the_same_is_refused_and_left_as_it_is(tmp_path, fields, more, reason):
    base = dataclasses.replace(TINY, **fields)
    base.run(tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(Error) as caught:
        dataclasses.replace(longer(base), **more).run(tmp_path / "run")
    assert reason in " ".join([str(caught.value), *caught.value.problems])
    assert contents(tmp_path / "run") == before


def test_without_the_last_state_a_finished_run_cannot_go_on(tmp_path):
    TINY.run(tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    before = contents(tmp_path / "run")
    with pytest.raises(Error, match="the state of its optimizer is not kept in checkpoints"):
        longer(TINY).run(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_finished_run_keeps_its_files_until_everything_is_read(tmp_path, monkeypatch):
    """The last row loses its evaluation with more epochs, and not before they are sure to come."""
    base = longer(TINY, 4, evaluate_every=3)
    base.run(tmp_path / "run")
    before = contents(tmp_path / "run")

    def damaged(*args):
        raise Error("it does not fit")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "restore", damaged)
        with pytest.raises(Error, match="it does not fit"):
            longer(base, 8).run(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    base = longer(TINY, 40, stop_after=1, optimizer=SGD(3.0))
    first = base.run(tmp_path / "run")
    assert first.ending
    again = longer(base, 60).run(tmp_path / "run")
    assert (again.ending, len(again.metrics)) == (first.ending, len(first.metrics))
    assert Run.open(tmp_path / "run").experiment.epochs == 60
    assert results(tmp_path / "run") == results(longer(base, 60).run(tmp_path / "once").path)


def test_a_run_that_stopped_early_is_that_of_every_number_of_epochs_after_its_end(tmp_path):
    """So that the command that made it still opens it, after one that asked for more epochs."""
    base = longer(TINY, 40, stop_after=1, optimizer=SGD(3.0))
    count = len(base.run(tmp_path / "run").metrics)
    longer(base, 60).run(tmp_path / "run")
    before = contents(tmp_path / "run")
    for epochs in (40, count + 1):
        run = longer(base, epochs).run(tmp_path / "run")
        assert (len(run.metrics), run.finished) == (count, True)
        assert results(tmp_path / "run") == results(longer(base, epochs).run(tmp_path / f"{epochs}").path)
    for epochs, more in ((count, {}), (count - 1, {}), (40, {"seed": 1})):
        with pytest.raises(Error, match="holds a run of another experiment"):
            longer(base, epochs, **more).run(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_run_that_stopped_early_under_a_schedule_is_that_of_its_number_of_epochs_alone(tmp_path):
    base = longer(TINY, 40, stop_after=1, optimizer=SGD(3.0, schedule="cosine"))
    assert base.run(tmp_path / "run").ending
    with pytest.raises(Error, match="but not for fewer"):
        longer(base, 39).run(tmp_path / "run")


def test_a_count_based_model_has_one_epoch(tmp_path):
    base = Experiment(dataset=TINY.dataset, model=seqjax.create("model", "ngram"))
    base.run(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_sweep_goes_on(tmp_path):
    axes = {"seed": [0, 1], "gradient": {"full": seqjax.create("gradient", "full")}}
    sweep(TINY, axes, tmp_path / "sweep")
    more = sweep(longer(TINY), axes, tmp_path / "sweep")
    once = sweep(longer(TINY), axes, tmp_path / "once")
    assert len(more) == 2
    for name, run in more.items():
        assert results(run.path) == results(once[name].path)


def test_the_command_line_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("ab cd " * 300)
    flags = ["--dataset", "text-file", "--dataset.path", "t.txt", "--model.hidden", "4", "--out", "run"]
    assert call("run", *flags, "--epochs", "1").returncode == 0
    assert call("run", *flags, "--epochs", "3").returncode == 0
    assert len(Run.open("run").metrics) == 3
    assert "it is finished" in call("run", *flags, "--epochs", "3").stdout

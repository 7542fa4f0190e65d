"""What is printed while a run is trained."""

import re

import numpy as np
import pytest
from support.tiny import TEXT, changed

from seqjax import Pairs, Series, Text
from seqjax.gradients import Randomized, Truncated
from seqjax.models import MLP
from seqjax.plugin.config import describe
from seqjax.runs import progress
from seqjax.runs.progress import Display, dataset_line
from seqjax.runs.run import job_of, run_of
from seqjax.samplers import Sequential
from seqjax.training.progress import Progress

EXPERIMENT = changed(dataset=Text(TEXT, "evil\x1b[31m\r\n[bold]name"), epochs=3, evaluate_every=2)
NUMBERS = r"\s*(\d+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+|nan)\s+([\d.]+)\s+([\d,]+)\s+(\d+:\d\d)"


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(progress, "SLOW", 3600.0)


def test_without_a_terminal_plain_lines_say_what_happens(capsys):
    run = EXPERIMENT.run(progress=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("\n")
    assert all(line.isprintable() for line in out.split("\n")), "no control characters, no carriage returns"
    device, dataset, model, header, *rows = out.splitlines()
    assert re.fullmatch(r"device   cpu, \d+ cores? · batch of 2 over 2 of 2 devices · jax [\d.]+ · float32", device)
    assert r"evil\x1b[31m\r\n[bold]name · 480 characters · 12 tokens · train 90% / held out 10%" in dataset
    assert re.search(r"rnn hidden=8 · 276 parameters · gradient full · adam .* · compiled in [\d.]+ s", model)
    assert header.split() == ["epoch", "loss", "train", "ppl", "held-out", "ppl", "|g|", "tokens/s", "left"]
    # the first and the last epoch are always shown, others only after some seconds
    assert rows.pop(1) == "    …  epoch 2 is in run.metrics"
    assert [row.split()[0] for row in rows] == ["1", "3"]
    assert {len(row) for row in rows} == {len(header)}
    for row, metrics in zip(rows, (run.metrics[0], run.metrics[2]), strict=True):
        numbers = re.fullmatch(NUMBERS, row).groups()
        names = ("epoch", "train_loss", "train_perplexity", "heldout_perplexity", "grad_norm")
        found = [float(number) for number in numbers[: len(names)]]
        np.testing.assert_allclose(found, [metrics[name] for name in names], atol=0.006)
        assert int(numbers[5].replace(",", "")) == round(metrics["tokens_per_second"])
    assert rows[-1].endswith("0:00")


def test_the_epochs_that_are_not_shown_are_named_with_the_file_that_has_them(capsys, tmp_path, monkeypatch):
    changed(epochs=4).run(tmp_path / "run", progress=True)
    rows = capsys.readouterr().out.splitlines()[4:]
    assert [row.split()[0] for row in rows] == ["1", "…", "4"]
    assert rows[1] == f"    …  epochs 2 to 3 are in {tmp_path / 'run' / 'metrics.jsonl'}"
    monkeypatch.setattr(progress, "EVERY", 0.0)
    changed(metrics=("accuracy",)).run(progress=True)
    header, *rows = capsys.readouterr().out.splitlines()[3:]
    assert header.split()[-4:] == ["tokens/s", "held-out", "accuracy", "left"]
    assert [row.split()[0] for row in rows] == ["1", "2"], "none is left out"


def test_the_parts_of_a_long_epoch_are_shown(capsys, monkeypatch):
    job = job_of(changed())
    with Display(run_of(job), job, True) as display:
        capsys.readouterr()
        updates = {"loss": np.array([9.0] * 50 + [2.0] * 100), "tokens": np.full(150, 1.0), "grad_norm": np.ones(150)}
        part = Progress(2, False, updates, epoch_seconds=3.0)
        display.part(part)
        monkeypatch.setattr(progress, "PART_EVERY", 0.0)
        display.part(part._replace(updates={}))
        assert capsys.readouterr().out == "", "it is too early, or has made no update"
        display.part(part)
    assert capsys.readouterr().out == "part     epoch 3: 35% · 150 updates · loss 2.000 · 50 tokens/s\n"


def test_slow_compiling_is_named(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SLOW", 0.0)
    job = job_of(changed())
    with Display(run_of(job), job, True) as display:
        display.slow.join()
    assert capsys.readouterr().out.endswith("\ncompile  the training of rnn hidden=8, once for these shapes\n")


def test_the_line_of_the_dataset():
    pairs = Pairs(np.arange(300) % 7, np.arange(300) % 7)
    for data, name in ((Series(np.zeros(300), source="waves"), "waves"), (pairs, "pairs")):
        job = job_of(changed(dataset=data, train=0.8, heldout=60))
        assert dataset_line(job) == f"{name} · 300 time steps · train 80% / held out 60"
    assert (
        dataset_line(job_of(changed(heldout=Text("the mat", "mats"))))
        == "text · 480 characters · 12 tokens · train 90% / held out mats"
    )


def test_a_gradient_that_cuts_nothing_is_noted(capsys):
    """The state of a window of inputs takes no gradient."""
    job = job_of(changed(dataset=Series(np.zeros(300)), model=MLP(lags=3), gradient=Truncated(steps=2)))
    run = run_of(job)
    with Display(run, job, True):
        assert "note     the state of mlp lags=3 holds inputs only" in capsys.readouterr().out
    with Display(run, job, False) as display:
        display.part(Progress())
    assert capsys.readouterr() == ("", "")


def test_a_plugin_is_described_by_its_name_and_the_fields_not_at_their_defaults():
    assert describe(Sequential(batch_size=4)) == "sequential batch_size=4"
    assert describe(Randomized(keep_prob=(0.5, 1.0))) == "randomized keep_prob=(0.5, 1.0)"

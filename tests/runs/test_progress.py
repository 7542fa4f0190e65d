import dataclasses
import re

import numpy as np
import pytest

from seqjax import Experiment, Pairs, Series, Text
from seqjax.errors import escape
from seqjax.plugin.config import describe
from seqjax_gradients import Randomized
from seqjax_models import RNN
from seqjax_samplers import Sequential

TEXT = "the cat sat on the mat. " * 30
EXPERIMENT = Experiment(
    dataset=Text(TEXT, "evil\x1b[31m\r\n[bold]name"),
    train=480,
    heldout=120,
    sampler=Sequential(batch_size=4, num_steps=12),
    model=RNN(hidden=3),
    epochs=3,
    evaluate_every=2,
)
NUMBERS = r"\s*(\d+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+|nan)\s+([\d.]+)\s+([\d,]+)\s+(\d+:\d\d)"


def test_without_a_terminal_plain_lines_say_what_happens(capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    run = EXPERIMENT.run(progress=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("\n")
    assert all(line.isprintable() for line in out.split("\n")), "no control characters, no carriage returns"
    device, dataset, model, header, *rows = out.splitlines()
    assert device.startswith("device   ")
    assert "jax " in device
    assert r"evil\x1b[31m\r\n[bold]name · 720 characters · 12 tokens · train 480 / held out 120" in dataset
    assert re.search(r"rnn hidden=3 · 96 parameters · gradient full · sgd .* · compiled in [\d.]+ s", model)
    assert header.split() == ["epoch", "loss", "train", "ppl", "held-out", "ppl", "|g|", "tokens/s", "left"]
    # the first and the last epoch are always shown, others only after some seconds
    assert rows.pop(1) == "    …  epoch 2 is in run.metrics"
    assert [row.split()[0] for row in rows] == ["1", "3"]
    for row, metrics in zip(rows, (run.metrics[0], run.metrics[2]), strict=True):
        numbers = re.fullmatch(NUMBERS, row).groups()
        names = ("epoch", "train_loss", "train_perplexity", "heldout_perplexity", "grad_norm")
        found = [float(number) for number in numbers[: len(names)]]
        np.testing.assert_allclose(found, [metrics[name] for name in names], atol=0.006)
        assert int(numbers[5].replace(",", "")) == round(metrics["tokens_per_second"])
    assert rows[-1].endswith("0:00")


def test_a_series_shows_squared_errors_and_its_steps(capsys):
    """Errors have four digits, so that .0538 is not shown as .05."""
    x = np.sin(np.arange(300.0))[:, None] * [1, 0.01]
    experiment = dataclasses.replace(
        EXPERIMENT, dataset=Series(0.01 * x, source="waves"), train=0.8, heldout=0.2, epochs=1
    )
    run = experiment.run(progress=True)
    _, dataset, _, header, row = capsys.readouterr().out.splitlines()
    assert dataset == "dataset  waves · 300 time steps · train 80% / held out 20%"
    assert header.split() == ["epoch", "loss", "train", "MSE", "held-out", "MSE", "|g|", "tokens/s", "left"]
    found = [float(number) for number in row.split()[2:4]]
    np.testing.assert_allclose(found, [run.metrics[0][f"{part}_loss"] for part in ("train", "heldout")], rtol=1e-3)
    assert 0 < found[1] < 1e-4


def test_pairs_of_tokens_show_perplexities(capsys):
    ids = np.arange(300) % 7
    experiment = dataclasses.replace(EXPERIMENT, dataset=Pairs(ids, ids), train=0.8, heldout=0.2, epochs=1)
    experiment.run(progress=True)
    _, dataset, _, header, _ = capsys.readouterr().out.splitlines()
    assert dataset == "dataset  pairs · 300 time steps · train 80% / held out 20%"
    assert "train ppl   held-out ppl" in header


def test_progress_is_silent_unless_asked_for(capsys):
    dataclasses.replace(EXPERIMENT, epochs=1).run()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – é 😀", "plain – é 😀"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x00\x7f\x9b", r"\x1b[31mred\x00\x7f\x9b"),
        ("\u202eright to left", r"\u202eright to left"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert escape(text) == shown
    assert escape(text, keep="\n\t") == shown.replace(r"\n", "\n").replace(r"\t", "\t")


def test_a_plugin_is_described_by_its_name_and_the_fields_not_at_their_defaults():
    assert describe(RNN()) == "rnn"
    assert describe(RNN(hidden=7)) == "rnn hidden=7"
    assert describe(Randomized(keep_prob=(0.5, 1.0))) == "randomized keep_prob=(0.5, 1.0)"
    assert describe(Sequential(batch_size=4)) == "sequential batch_size=4"


def test_the_epochs_that_are_not_shown_are_named_with_the_file_that_has_them(capsys, tmp_path):
    path = tmp_path / "run"
    dataclasses.replace(EXPERIMENT, epochs=4).run(path, progress=True)
    rows = capsys.readouterr().out.splitlines()[4:]
    assert [row.split()[0] for row in rows] == ["1", "…", "4"]
    assert rows[1] == f"    …  epochs 2 to 3 are in {path / 'metrics.jsonl'}"
    dataclasses.replace(EXPERIMENT, epochs=2).run(progress=True)
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()[4:]] == ["1", "2"], "none is left out"


def test_reprs_are_one_short_line():
    run = dataclasses.replace(EXPERIMENT, epochs=1).run()
    last = run.metrics[-1]["heldout_loss"]
    assert repr(run) == f"Run(1 of 1 epochs, heldout_loss={last:.4g})"
    assert len(repr(run.prepared)) < 300
    assert "\n" not in repr(run.prepared)
    assert "array" not in repr(run.prepared)

"""`seqjax evaluate`, also of runs whose files or dataset were changed."""

import math
from pathlib import Path

import numpy as np
import pytest
from support.shell import call
from support.small_run import NGRAM

from seqjax import Experiment, Run, Series, Text
from seqjax.models import RNN
from seqjax.report.table_cell import format_cell
from seqjax.samplers import Sequential


def test_evaluate_prints_every_part_that_has_targets(run_):
    lines = call("evaluate", run_).stdout.splitlines()
    assert lines[0].split() == ["part", "loss", "perplexity", "bits/char", "tokens"]
    opened = Run.open(run_)
    for line, part, size in zip(lines[1:], ("train", "heldout", "rest"), (400, 400, 400), strict=True):
        name, loss, perplexity, bits, targets = line.split()
        row = opened.evaluate(part)
        assert (name, int(targets)) == (part, size - 1)
        assert float(bits) == pytest.approx(row["loss"] / math.log(2), abs=1e-4)
        assert float(loss) == pytest.approx(row["loss"], abs=1e-4)
        assert float(perplexity) == pytest.approx(math.exp(row["loss"]), rel=1e-4)
    assert float(lines[2].split()[1]) == pytest.approx(opened.metrics[-1]["heldout_loss"], abs=1e-4)
    assert call("evaluate", run_, "--part", "heldout").stdout.splitlines() == [lines[0], lines[2]]


@pytest.mark.filterwarnings("default::UserWarning")
def test_evaluate_reads_a_text_file(run_):
    Path("own.txt").write_text("the lazy föx, und Ä", encoding="utf-8")  # with characters that the vocabulary lacks
    done = call("evaluate", run_, "--text", "own.txt")
    assert "bits/char" not in done.stdout
    assert done.stderr == "note     10.53% of own.txt is unknown to the vocabulary of the run\n"  # 2 of 19
    Path("own.txt").write_text("the lazy fox", encoding="utf-8")
    head, line = call("evaluate", run_, "--text", "own.txt").stdout.splitlines()
    row = Run.open(run_).evaluate(Text("the lazy fox"))
    assert head.split() == ["part", "loss", "perplexity", "bits/char", "tokens"]
    expected = [format_cell(row[name], 5) for name in ("loss", "perplexity", "bits_per_character")]
    assert line.split() == ["text", *expected, "11"]


@pytest.mark.slow
def test_evaluate_of_a_series_has_its_squared_error(tmp_path):
    run = Experiment(
        dataset=Series(np.sin(np.arange(90.0))), sampler=Sequential(2, 10), model=RNN(hidden=2), epochs=1
    ).run(tmp_path / "run")
    lines = call("evaluate", run.path).stdout.splitlines()
    assert lines[0].split() == ["part", "loss", "targets"]
    assert lines[1].split() == ["train", format_cell(run.evaluate("train")["loss"], 5), "80"]
    assert lines[2].split() == ["heldout", format_cell(run.evaluate("heldout")["loss"], 5), "8"]
    assert lines[3].split() == ["rest", "0"]


def test_evaluate_reports_an_empty_part(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert call("run", *NGRAM, "--heldout", 0, "--out", "whole").returncode == 0
    done = call("evaluate", "whole", "--part", "heldout")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [["heldout", "0"]]


def test_a_dataset_that_was_moved_is_named_and_a_link_serves(run_):
    Path("text.txt").rename("moved.txt")
    try:
        done = call("evaluate", run_)
        assert (done.returncode, f"named in {run_ / 'config.toml'}" in done.stderr) == (2, True)
        Path("text.txt").symlink_to("moved.txt")
        assert call("evaluate", run_).returncode == 0
        Path("text.txt").unlink()
    finally:
        Path("moved.txt").rename("text.txt")

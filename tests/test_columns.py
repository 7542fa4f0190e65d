"""The table of the columns: what each holds, and that everything reads it."""

import json
import math

import numpy as np
import pytest
from support.tiny import TINY, changed, small_chunks

from seqjax import Runs, columns, plot
from seqjax.columns import COLUMNS, Column, Epoch, label_of, perplexity, printed, row_of
from seqjax.runs.equality import TIMES

EPOCH = Epoch(3, 12, 100, 5.0, 0.5, 40, 2.0, 1.5, 0.25, 0.1, {"loss": 2.0}, has_perplexity=True)
ROW = {
    **{"epoch": 3, "update": 12, "tokens": 100, "seconds": 5.0, "train_loss": 1.5, "heldout_loss": 2.0},
    **{"train_perplexity": math.exp(1.5), "heldout_perplexity": math.exp(2.0), "compile_seconds": 0.5},
    **{"grad_norm": 0.25, "learning_rate": 0.1, "tokens_per_second": 20.0},
}


def test_the_row_of_an_epoch():
    assert row_of(EPOCH) == ROW
    assert [*row_of(EPOCH)] == [*ROW]
    without = {name: value for name, value in ROW.items() if "perplexity" not in name}
    assert row_of(EPOCH._replace(has_perplexity=False)) == without
    never = {name: value for name, value in without.items() if name != "heldout_loss"}
    assert row_of(EPOCH._replace(heldout=None)) == never, "as in `train`, which evaluates nothing"
    row = row_of(EPOCH._replace(heldout={}))
    assert math.isnan(row["heldout_loss"])
    assert math.isnan(row["heldout_perplexity"])
    assert row["train_perplexity"] == ROW["train_perplexity"]


def test_the_perplexity_of_a_large_loss_is_infinite():
    assert perplexity(0.0) == 1
    assert perplexity(700.0) == math.exp(700.0)
    assert perplexity(701.0) == math.inf


def test_what_is_printed():
    assert {title.strip(): text.strip() for title, text in printed(ROW).items()} == {
        **{"epoch": "3", "loss": "1.500", "train ppl": "4.48", "held-out ppl": "7.39", "|g|": "0.25", "tokens/s": "20"}
    }
    assert {len(title) - len(text) for title, text in printed(ROW).items()} == {0}
    values = row_of(EPOCH._replace(has_perplexity=False)) | {"heldout_mae": 0.123456}
    titles = ["epoch", "loss", "held-out loss", "|g|", "tokens/s", "held-out mae"]
    assert [*map(str.strip, printed(values, ["mae"]))] == titles
    assert printed(values, ["mae"])["held-out mae"].strip() == "0.1235"


def test_labels_have_units_and_say_what_a_loss_is():
    assert [label_of("train_loss", tokens) for tokens in (True, False, None)] == [
        *("training loss (nats)", "training mean squared error", "training loss")
    ]
    assert (label_of("tokens"), label_of("tokens", False)) == ("tokens", "targets")
    assert label_of("heldout_last_mae") == "held-out last mae"
    assert {column.name for column in COLUMNS if column.during} == {"train_loss", "train_perplexity"}
    assert {"seconds", "compile_seconds", "tokens_per_second"} == TIMES


def test_a_new_column_is_in_the_rows_the_lines_the_comparisons_and_the_figures(tmp_path, monkeypatch, capsys):
    column = Column("tokens_per_update", lambda e: e.tokens / e.update, lambda _: "tokens an update", "tok/up", "7.2f")
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, column))
    monkeypatch.setitem(columns.BY_NAME, column.name, column)
    with small_chunks():
        run = TINY.run(tmp_path / "run", progress=True)
        runs = Runs({"a, seed=0": run, "a, seed=1": changed(seed=1).run()}, {"a, seed=0": "a", "a, seed=1": "a"})
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["tokens_per_update"] for row in rows] == [pytest.approx(432 / 27, rel=0.01)] * 2
    header, first, _ = capsys.readouterr().out.splitlines()[3:]
    assert header.split()[-2:] == ["tok/up", "left"]
    assert first.split()[-2] == f"{rows[0]['tokens_per_update']:.2f}"
    assert runs.compare("tokens_per_update").rows[0][2] == rows[-1]["tokens_per_update"]
    axes = plot.runs(runs, y="tokens_per_update").axes[0]
    assert axes.get_ylabel() == "tokens an update"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [row["tokens_per_update"] for row in rows])

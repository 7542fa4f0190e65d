"""`reproduce`: runs of every kind are equal to the last bit, and results that were changed are not."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from seqjax.runs.adopt import adopt
from support.crash import NoFigure, crash_after, experiment

from seqjax import Error, Experiment, Pairs, Run, Text, create
from seqjax.runs import folder, rows
from seqjax.runs.reproduce import TOLERANCE, check_reproducible, compare, difference, reproduce
from seqjax.runs.run import COLUMNS
from seqjax.training import feed
from seqjax.training.loop import Diverged
from seqjax_models import RNN, NGram
from seqjax_optimizers import SGD, Adam
from seqjax_samplers import Sequential

TEXT = Text("the cat sat on the mat. " * 20)
TINY = Experiment(dataset=TEXT, model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=SGD(0.5), epochs=3)
NOISE = np.random.default_rng(0).normal(size=(120, 3))
STOPS = Experiment(
    dataset=Pairs(NOISE[:, :2], NOISE[:, 2]), train=60, heldout=60, model=RNN(hidden=8), sampler=Sequential(2, 10),
    optimizer=Adam(0.03), epochs=30, stop_after=3, keep="best",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", NoFigure)
        return TINY.run(tmp_path_factory.mktemp("whole") / "run").path


@pytest.fixture
def path(whole, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(whole, tmp_path / "run")


def again(path, tmp_path):
    run = Run.open(path)
    check_reproducible(run, tmp_path / "again")
    return reproduce(run, tmp_path / "again")


def test_the_difference_of_two_arrays():
    old = np.array([1.0, -4.0, 0.0])
    assert difference(old, old.copy()) == (True, 0, 0)
    assert difference(old, np.array([1.5, -4.0, 0.25])) == (False, 0.5, 0.5 / 4)
    assert difference(old, np.array([1.0, -4.0, -0.0])) == (False, 0, 0), "other bits of the same number"
    strange = np.array([np.nan, np.inf, 1.0])
    assert difference(strange, strange.copy()) == (True, 0, 0)
    assert difference(strange, np.array([np.nan, np.inf, 1.5])) == (False, 0.5, 0.5)
    for other in ([0.0, np.inf, 1.0], [np.nan, -np.inf, 1.0], [np.nan, 3.0, 1.0]):
        assert difference(strange, np.array(other)) == (False, math.inf, math.inf)
    assert difference(np.zeros(2), np.array([0.0, 1e-9])) == (False, 1e-9, math.inf)
    assert difference(np.array([2, 2**31 - 1], np.int32), np.array([2, 2**31 - 2], np.int32)) == (
        False, 1.0, 1 / (2**31 - 1),
    )  # fmt: skip
    assert difference(np.zeros(2), np.zeros(3)) == difference(np.zeros(2), np.zeros(2, int)) == (
        False, math.inf, math.inf,
    )  # fmt: skip
    assert difference(np.array([1j]), np.array([2j])) == (False, 1.0, 1.0)
    assert difference(np.zeros((0, 3)), np.zeros((0, 3))) == (True, 0, 0)


EXPERIMENTS = {
    "text in memory": TINY,
    "lstm, dropout, randomized, adam": experiment("lstm, dropout, randomized, adam"),
    "series": experiment("mlp, windows"),
    "counted": Experiment(dataset=TEXT, model=NGram(order=2), epochs=1),
    "stopped early": STOPS,
}


SLOW = ("lstm, dropout, randomized, adam", "series")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in EXPERIMENTS]
)
def test_a_run_is_bitwise_equal(tmp_path, name):
    run = EXPERIMENTS[name].run(tmp_path / "run")
    found = again(run.path, tmp_path)
    assert found.is_bitwise, found
    assert found.environment == []
    parts = {part.part: part for part in found.parts}
    times = {"seconds", "compile_seconds", "tokens_per_second"}
    assert {part for part in parts if part in run.metrics[0]} == {*run.metrics[0]} - times
    assert ("samples" in parts) == bool(run.samples)
    assert any(part.startswith("parameters of epoch") for part in parts) == (run.experiment.keep == "best")


def test_an_interrupted_run_that_went_on_is_bitwise_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "CHUNK_STEPS", 40)
    with crash_after(monkeypatch, 4):
        TINY.run(tmp_path / "run", checkpoint_seconds=0)
    TINY.run(tmp_path / "run")
    assert again(tmp_path / "run", tmp_path).is_bitwise


def test_a_run_that_its_callback_has_ended(tmp_path):
    run = TINY.run(tmp_path / "run", callback=lambda run: len(run.metrics) == 2)
    assert (len(run.metrics), run.ending) == (2, "the callback ended training after epoch 2")
    assert again(run.path, tmp_path).is_bitwise


def test_a_run_that_diverged(tmp_path):
    values = np.sin(np.arange(200.0))
    diverges = Experiment(
        dataset=Pairs(values, 1e5 * values), model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=SGD(10.0),
        epochs=3,
    )  # fmt: skip
    with pytest.raises(Diverged):
        diverges.run(tmp_path / "run")
    found = again(tmp_path / "run", tmp_path)
    assert [part for part in found.parts if not part.equal] == []
    assert found.parts[0].compared.endswith("diverged")


@pytest.mark.slow
def test_a_run_that_starts_from_another_one(path, tmp_path):
    tuned = dataclasses.replace(TINY, seed=1, init_from=str(path), epochs=1).run(tmp_path / "tuned")
    assert again(tuned.path, tmp_path).is_bitwise


@pytest.mark.slow
def test_the_layout_of_the_run_is_used(tmp_path):
    """One device and two round differently, if a batch has enough rows."""
    wide = dataclasses.replace(TINY, sampler=Sequential(8, 8), model=RNN(hidden=32))
    one, two = (wide.run(tmp_path / f"{n}", devices=n) for n in (1, 2))
    assert not all(part.equal for part in compare(one, two))
    for run in (one, two):
        out = tmp_path / f"again-{run.path.name}"
        assert reproduce(Run.open(run.path), out).is_bitwise
        assert json.loads((out / folder.ENVIRONMENT).read_text())["devices"] == int(run.path.name)


def test_other_versions_are_named(path, tmp_path):
    record = json.loads((path / folder.ENVIRONMENT).read_text())
    then, record["versions"]["jaxlib"] = record["versions"]["jaxlib"], "0.0.1"
    (path / folder.ENVIRONMENT).write_text(json.dumps(record))
    adopt(path)
    found = again(path, tmp_path)
    assert found.is_bitwise
    assert found.environment == [f"jaxlib: then 0.0.1, now {then}"]


@pytest.mark.parametrize(("factor", "within"), [(1 + TOLERANCE / 2, True), (1 + 2 * TOLERANCE, False)])
def test_a_changed_loss_is_within_tolerance_or_different(path, tmp_path, factor, within):
    changed = rows.read_rows(path)
    largest = max(row["train_loss"] for row in changed)
    for row in changed:
        row["train_loss"] = row["train_loss"] * factor if row["train_loss"] == largest else row["train_loss"]
    rows.write_rows(path, changed)
    adopt(path)
    found = again(path, tmp_path)
    (part,) = [part for part in found.parts if not part.equal]
    assert part.part == "train_loss"
    assert part.absolute == pytest.approx(largest * (factor - 1))
    assert part.relative == pytest.approx((factor - 1) / factor)
    assert (found.is_bitwise, found.is_within_tolerance) == (False, within)


@pytest.mark.parametrize("column", ["seconds", "compile_seconds", "tokens_per_second"])
def test_times_are_not_compared(path, tmp_path, column):
    assert column in COLUMNS
    rows.write_rows(path, [row | {column: 1e9} for row in rows.read_rows(path)])
    adopt(path)
    assert again(path, tmp_path).is_bitwise


def test_a_changed_learning_rate_is_different(path, tmp_path):
    text = (path / folder.CONFIG).read_text()
    (path / folder.CONFIG).write_text(text.replace("learning_rate = 0.5", "learning_rate = 0.6"))
    adopt(path)
    found = again(path, tmp_path)
    assert not found.is_within_tolerance
    parts = {part.part: part for part in found.parts}
    assert parts["parameters"].relative > TOLERANCE
    assert parts["epochs"].equal
    assert found.equal_epochs == 0


@pytest.mark.parametrize("first", [1, 2, 3])
def test_the_epochs_before_the_first_difference_are_counted(path, tmp_path, first):
    changed = rows.read_rows(path)
    for row in changed[first - 1 :]:
        row["grad_norm"] *= 10 ** row["epoch"]
    rows.write_rows(path, changed)
    adopt(path)
    found = again(path, tmp_path)
    assert (found.is_within_tolerance, found.equal_epochs) == (False, first - 1)


def test_samples_may_differ_within_tolerance_and_epochs_may_not(path, tmp_path):
    (path / folder.SAMPLES).write_text("another text")
    adopt(path)
    found = again(path, tmp_path)
    assert [part.part for part in found.parts if not part.equal] == ["samples"]
    assert (found.is_bitwise, found.is_within_tolerance) == (False, True)
    shorter = dataclasses.replace(Run.open(path), metrics=Run.open(path).metrics[:2])
    assert not compare(shorter, Run.open(path))[0].equal


def test_what_cannot_be_trained_again_is_refused(path, tmp_path, monkeypatch):
    run = Run.open(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    shutil.copytree(path, tmp_path / "copy")
    for out in (path, link, tmp_path / "copy"):
        with pytest.raises(Error, match="holds a run that has ended"):
            check_reproducible(run, out)
    given = TINY.run(tmp_path / "given", params=run.params)
    with pytest.raises(Error, match="parameters that were given in Python"):
        check_reproducible(given, tmp_path / "again")
    with crash_after(monkeypatch, 2):
        TINY.run(tmp_path / "unfinished", checkpoint_seconds=0)
    with pytest.raises(Error, match="is unfinished"):
        check_reproducible(Run.open(tmp_path / "unfinished"), tmp_path / "again")
    file = tmp_path / "text.txt"
    file.write_text(TEXT.text)
    own = dataclasses.replace(TINY, dataset=create("dataset", "text-file", path=str(file))).run(tmp_path / "own")
    file.write_text(TEXT.text.replace("mat", "rat"))
    with pytest.raises(Error, match="dataset has changed") as caught:
        check_reproducible(Run.open(own.path), tmp_path / "again")
    assert caught.value.exit_code == 4

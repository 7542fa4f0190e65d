"""`reproduce`: runs of every kind are equal to the last bit, and results that were changed are not."""

import json
import math

import numpy as np
import pytest
from support.crash import experiment
from support.tiny import FULL, TEXT, TINY, changed, copy, refused, replace_file

from seqjax import Experiment, Run, create
from seqjax.models import RNN, NGram
from seqjax.optimizers import Adam
from seqjax.runs.files import folder
from seqjax.runs.files.rows import encode_rows, read_rows
from seqjax.runs.reproduce import TOLERANCE, check_reproducible, compare, difference, reproduce
from seqjax.samplers import Sequential
from seqjax.training.loop import Diverged


def again(path, tmp_path):
    run = Run.open(path)
    check_reproducible(run, tmp_path / "again")
    return reproduce(run, tmp_path / "again")


def test_the_difference_of_two_arrays():
    strange, whole = [np.nan, np.inf, 1.0], np.int32([2, 2**31 - 1])
    for old, new, expected in (
        ([1.0, -4.0, 0.0], [1.5, -4.0, 0.25], (False, 0.5, 0.5 / 4)),
        ([1.0, -4.0, 0.0], [1.0, -4.0, -0.0], (False, 0, 0)),  # other bits of the same number
        (strange, strange, (True, 0, 0)),
        (strange, [np.nan, np.inf, 1.5], (False, 0.5, 0.5)),
        *((strange, other, (False, math.inf, math.inf)) for other in ([0.0, np.inf, 1.0], [np.nan, 3.0, 1.0])),
        ([0.0, 0.0], [0.0, 1e-9], (False, 1e-9, math.inf)),
        (whole, whole - np.int32([0, 1]), (False, 1.0, 1 / (2**31 - 1))),
        ([0.0, 0.0], [0.0, 0.0, 0.0], (False, math.inf, math.inf)),
        ([0.0, 0.0], [0, 0], (False, math.inf, math.inf)),
        ([1j], [2j], (False, 1.0, 1.0)),
        (np.zeros((0, 3)), np.zeros((0, 3)), (True, 0, 0)),
    ):
        assert difference(np.array(old), np.array(new)) == expected


EXPERIMENTS = {
    "best epoch": FULL,
    "series": experiment("mlp, windows"),
    "counted": Experiment(dataset=TINY.dataset, model=NGram(order=2), epochs=1),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "best epoch")) for name in EXPERIMENTS]
)
def test_a_run_is_bitwise_equal(tmp_path, name):
    run = EXPERIMENTS[name].run(tmp_path / "run")
    found = again(run.path, tmp_path)
    assert found.is_bitwise, found
    assert found.different == []
    assert (found.environment, found.equal_epochs) == ([], len(run.metrics))
    parts = {part.part: part for part in found.parts}
    times = {"seconds", "compile_seconds", "tokens_per_second"}
    assert {part for part in parts if part in run.metrics[0]} == {*run.metrics[0]} - times
    assert ("samples" in parts) == bool(run.samples)
    assert any(part.startswith("parameters of epoch") for part in parts) == (run.experiment.keep == "best")


def test_an_interrupted_run_whose_callback_has_ended_it_is_bitwise_equal(stopped, tmp_path):
    changed(FULL, epochs=4).run(stopped, callback=lambda run: len(run.metrics) == 2)
    found = again(stopped, tmp_path)
    assert (found.is_bitwise, len(Run.open(tmp_path / "again").metrics)) == (True, 2)
    parameters = [part.part for part in found.parts if part.part.startswith("parameters")]
    assert parameters == ["parameters", "parameters of epoch 1"]
    assert found.parts[2].compared == "5 leaves, 276 numbers"


def test_a_run_that_diverged(tmp_path):
    with pytest.raises(Diverged):
        changed(optimizer=Adam(1e38, clip_norm=1.0)).run(tmp_path / "run")
    found = again(tmp_path / "run", tmp_path)
    assert [part for part in found.parts if not part.equal] == []
    assert found.parts[0].compared.endswith(", diverged")


@pytest.mark.slow
def test_a_run_that_starts_from_another_one(whole, tmp_path):
    tuned = changed(FULL, seed=1, init_from=str(whole.path), epochs=1).run(tmp_path / "tuned")
    assert again(tuned.path, tmp_path).is_bitwise


@pytest.mark.slow
def test_as_many_devices_are_used_as_by_the_run(tmp_path):
    """One device and two round differently, if a batch has enough rows."""
    wide = changed(sampler=Sequential(8, 8), model=RNN(hidden=32))
    one, two = (wide.run(tmp_path / f"{n}", devices=n) for n in (1, 2))
    assert not all(part.equal for part in compare(one, two))
    for run in (one, two):
        out = tmp_path / f"again-{run.path.name}"
        assert reproduce(Run.open(run.path), out).is_bitwise
        assert json.loads((out / folder.ENVIRONMENT).read_text())["devices"] == int(run.path.name)


def with_rows(path, change):
    """The run in a folder whose rows were changed."""
    rows = read_rows(path)
    for row in rows:
        change(row)
    replace_file(path, folder.METRICS, encode_rows(rows))
    return Run.open(path)


@pytest.mark.parametrize(("factor", "within"), [(1 + TOLERANCE / 2, True), (1 + 2 * TOLERANCE, False)])
def test_a_changed_loss_is_within_tolerance_or_different(finished, tmp_path, factor, within):
    largest = max(row["train_loss"] for row in read_rows(finished))
    with_rows(finished, lambda row: row.update(train_loss=row["train_loss"] * (factor if row["epoch"] == 1 else 1)))
    found = again(finished, tmp_path)
    (part,) = [part for part in found.parts if not part.equal]
    assert part.part == "train_loss"
    assert part.absolute == pytest.approx(largest * (factor - 1))
    assert part.relative == pytest.approx((factor - 1) / factor)
    assert (found.is_bitwise, found.equal_epochs) == (False, 2 if within else 0)
    assert found.different == ([] if within else [part])


def test_times_are_not_compared_and_epochs_before_the_first_difference_are_counted(finished, tmp_path):
    def change(row):
        row |= dict.fromkeys(["seconds", "compile_seconds", "tokens_per_second"], 1e9)
        row["grad_norm"] *= 10.0 ** (row["epoch"] == 2)

    with_rows(finished, change)
    found = again(finished, tmp_path)
    assert [part.part for part in found.parts if not part.equal] == ["grad_norm"]
    assert ([part.part for part in found.different], found.equal_epochs) == (["grad_norm"], 1)


def test_another_training_and_another_environment_are_different(finished, tmp_path):
    record = json.loads((finished / folder.ENVIRONMENT).read_text())
    then, record["versions"]["jaxlib"] = record["versions"]["jaxlib"], "0.0.1"
    replace_file(finished, folder.ENVIRONMENT, json.dumps(record).encode())
    text = (finished / folder.CONFIG).read_text()
    replace_file(finished, folder.CONFIG, text.replace("learning_rate = 0.05", "learning_rate = 0.06").encode())
    found = again(finished, tmp_path)
    assert (bool(found.different), found.equal_epochs) == (True, 0)
    assert found.environment == [f"jaxlib: then 0.0.1, now {then}"]
    parts = {part.part: part for part in found.parts}
    assert parts["parameters"].relative > TOLERANCE
    assert parts["epochs"].equal


def test_samples_may_differ_within_tolerance_and_epochs_endings_and_leaves_may_not(finished, whole, tmp_path):
    replace_file(finished, folder.SAMPLES, b"another text")
    found = again(finished, tmp_path)
    assert [part.part for part in found.parts if not part.equal] == ["samples"]
    assert (found.is_bitwise, found.different) == (False, [])
    run = Run.open(finished)
    shorter = changed(run, metrics=run.metrics[:1])
    assert (compare(shorter, run)[0].compared, compare(shorter, run)[0].equal) == ("1 and 2", False)
    assert not compare(changed(run, diverged=True), run)[0].equal
    fewer = changed(run, params={"W_hq": run.params["W_hq"]})
    assert compare(run, fewer)[2][2:] == (False, math.inf, math.inf)


def test_what_cannot_be_trained_again_is_refused(whole, half, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(whole.path)
    for out in (whole.path, link, copy(whole.path, tmp_path / "copy")):
        with refused("holds a run that has ended", 2):
            check_reproducible(whole, out)
    killed = copy(half, tmp_path / "killed")
    (killed / folder.PARAMS).touch()  # the results are written before the manifest that lists them
    check_reproducible(whole, killed)
    given = TINY.run(tmp_path / "given", params=whole.params)
    with refused("parameters that were given in Python", 2):
        check_reproducible(given, tmp_path / "again")
    with refused("is unfinished", 2):
        check_reproducible(Run.open(half), tmp_path / "again")
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    own = changed(dataset=create("dataset", "text-file", path=str(file)), epochs=1).run(tmp_path / "own")
    file.write_text(TEXT.replace("mat", "rat"))
    with refused("dataset has changed"):
        check_reproducible(Run.open(own.path), tmp_path / "again")

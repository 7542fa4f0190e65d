"""A run that was killed, or has lost its newest checkpoint or rows, ends with the bits of one that was not."""

import os
import shutil

import jax
import optax
import pytest
from support.crash import contents, count_chunks
from support.tiny import FULL, changed, flip, left, refused

from seqjax.optimizers import Adam
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest
from seqjax.training.loop import Diverged


def stops(run):
    return len(run.metrics) == 2


def trained(experiment, path, **options):
    """The run of an experiment, also if it diverges."""
    try:
        return experiment.run(path, **options)
    except Diverged as fault:
        return fault.run


def states_of(work, path):
    """What the folder has before each call of `work` that puts a file into its place or deletes one."""
    states = []

    def noted(real):
        def stand_in(*args, **kwargs):
            states.append(contents(path) if path.is_dir() else {})
            return real(*args, **kwargs)

        return stand_in

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(os, name, noted(getattr(os, name)))
        work()
    return states


def write_state(path, state):
    shutil.rmtree(path, ignore_errors=True)
    for name, data in state.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


def top(output, target):
    return (output[target] >= output.max()).astype(float)


KINDS = {
    "keeps the best, ended by a callback": (None, changed(FULL, epochs=4), {"callback": stops}),
    "more epochs": (changed(FULL, epochs=1), FULL, {}),
    "with objects of Python": (
        None,
        changed(FULL, optimizer=optax.adamw(0.05), loss=lambda o, t: -jax.nn.log_softmax(o)[t], metrics=[top]),
        {},
    ),
    "diverges": (None, changed(optimizer=Adam(1e38, clip_norm=1.0)), {}),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "objects" in kind else ()) for kind in KINDS]
)
def test_a_kill_before_any_change_of_the_folder_leads_to_the_same_bits(tmp_path, kind):
    before, experiment, options = KINDS[kind]
    path = tmp_path / "run"
    if before:
        before.run(path)
    states = states_of(lambda: trained(experiment, path, checkpoint_seconds=0, **options), path)
    whole = left(trained(experiment, tmp_path / "once", **options).path)
    assert left(path) == whole
    begun = [state for state in states if folder.CONFIG in state]
    first = states[0::4] if before is None else []  # all that a kill before the config leaves is begun anew
    assert len(begun) >= 2
    for n, state in enumerate([*first, *begun]):
        write_state(path, state)
        trained(experiment, path, **options)
        assert left(path) == whole, f"killed before change {n}"
        assert not list(path.rglob("*.part"))


def test_a_damaged_newest_checkpoint_is_deleted_and_training_continues_from_the_previous_one(
    whole, stopped, monkeypatch
):
    newest, other = read_manifest(stopped).checkpoints
    flip(stopped / newest)
    before = contents(stopped)
    with refused("Delete it and type the same command again: training continues from the other checkpoint") as caught:
        FULL.run(stopped)
    assert caught.value.problems == (f"{stopped / newest} has changed",)
    assert contents(stopped) == before
    flip(stopped / other)
    with refused("Restore them, or train in another folder"):
        FULL.run(stopped)
    flip(stopped / other)
    (stopped / newest).unlink()
    assert len(count_chunks(monkeypatch, FULL, stopped)) == 2
    assert left(stopped) == left(whole.path)


def test_the_last_checkpoint_is_deleted_before_the_results_are_written(whole, stopped):
    """It is trained and written again, with other measured times, and so with another hash."""
    states = states_of(lambda: FULL.run(stopped), stopped)
    write_state(stopped, next(state for state in states if folder.PARAMS in state))
    newest, _ = read_manifest(stopped).checkpoints
    (stopped / newest).unlink()
    FULL.run(stopped)
    assert left(stopped) == left(whole.path)


@pytest.mark.parametrize("damage", [b"", b'\x00\xff\n\n[]\n{"epoch": 2, "upd'], ids=["gone", "no rows"])
def test_damaged_rows_after_the_last_checkpoint_do_no_harm(whole, stopped, damage):
    file = stopped / folder.METRICS
    rows = file.read_bytes().splitlines(keepends=True)
    assert len(rows) == 2, "of which the last checkpoint has one"
    file.write_bytes(rows[0] + damage)
    FULL.run(stopped)
    assert left(stopped) == left(whole.path)


def test_damaged_rows_before_the_last_checkpoint_are_exit_4(stopped):
    file = stopped / folder.METRICS
    first, second = file.read_bytes().splitlines(keepends=True)
    for damaged in (first.replace(b'"epoch": 1', b'"epoch": 3') + second, second, second + first, b""):
        file.write_bytes(damaged)
        before = contents(stopped)
        with refused(f"(?s){file}.*its first 1 lines are not those that were written"):
            FULL.run(stopped)
        assert contents(stopped) == before

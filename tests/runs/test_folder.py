"""The lock of a folder: what happens if its file is deleted, or if the file system keeps no locks."""

import fcntl
import os

import pytest
from support.crash import NoFigure

from seqjax import Error, Experiment, Run, Text
from seqjax.files import make_folder
from seqjax.runs import folder, record
from seqjax.training import feed
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

TINY = Experiment(
    dataset=Text("the cat sat on the mat. " * 20), model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=SGD(0.5),
    epochs=3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setattr(feed, "CHUNK_STEPS", 40)
    monkeypatch.setattr(Run, "plot", NoFigure)


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("steps", [40, 10**6], ids=["within an epoch", "after an epoch"])
def test_a_process_whose_lock_was_deleted_writes_nothing_more(tmp_path, monkeypatch, replaced, steps):
    """Another process could have made and locked another file, and trained the run since."""
    path, take, seen = tmp_path / "run", record.Recorder.take, []
    monkeypatch.setattr(feed, "CHUNK_STEPS", steps)

    def delete(self, outcome):
        ended = take(self, outcome)
        seen.append(outcome)
        if len(seen) == 1:
            (path / folder.LOCK).unlink()
            if replaced:
                (path / folder.LOCK).write_text("process 1 on another machine\n")
            seen.append(contents(path))
        return ended

    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "take", delete)
        with pytest.raises(Error, match=r"its file \.lock was deleted") as caught:
            TINY.run(path, checkpoint_seconds=0)
    assert caught.value.exit_code == 5
    assert contents(path) == seen[-1]
    assert TINY.run(path).finished, "the same command goes on"


def test_a_deleted_lock_is_found_before_the_results_are_written(tmp_path, monkeypatch):
    path, save = tmp_path / "run", record.Recorder.save

    def delete(self):
        save(self)
        if self.run.finished:
            (path / folder.LOCK).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "save", delete)
        with pytest.raises(Error, match=r"\.lock was deleted"):
            TINY.run(path)
    assert not (path / folder.PARAMS).exists()


def test_a_lock_that_is_deleted_before_it_is_locked_does_not_count(tmp_path, monkeypatch):
    flock = fcntl.flock

    def late(file, operation):
        (tmp_path / folder.LOCK).unlink()
        (tmp_path / folder.LOCK).write_text("process 1 on another machine\n")
        monkeypatch.setattr(fcntl, "flock", flock)
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.warns(match="keeps no locks"), pytest.raises(Error, match=r"\.lock was deleted"), folder.lock(tmp_path):
        pass


def test_a_file_system_that_ignores_locks_is_told_at_the_start(tmp_path, monkeypatch):
    with folder.lock(tmp_path):
        folder.check_lock(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)
    with pytest.warns(match=f"{tmp_path}: this file system keeps no locks"), folder.lock(tmp_path):
        pass


def test_each_new_folder_is_synced_in_the_one_that_holds_it(tmp_path, monkeypatch):
    """Otherwise a power failure could lose the folder of a run with all that was synced inside."""
    synced, with_checkpoints, fsync, run = [], [], os.fsync, tmp_path / "c" / "run"

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if (run / folder.CHECKPOINTS).exists():
            with_checkpoints.append(synced[-1])
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    make_folder(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    synced.clear()
    make_folder(tmp_path / "a" / "b")
    assert synced == []
    TINY.run(run, checkpoint_seconds=0)
    assert synced[:2] == [str(tmp_path), str(tmp_path / "c")]
    assert with_checkpoints[0] == str(run)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")

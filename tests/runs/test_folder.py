"""The lock of a folder: what happens if its file is deleted, linked, or held by another process."""

import fcntl
import os
import subprocess
import sys

import pytest
from support.crash import contents
from support.tiny import FULL, TINY, refused

from seqjax.runs import record
from seqjax.runs.files import folder


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("chunks", [1, 2], ids=["within an epoch", "after an epoch"])
def test_a_process_whose_lock_was_deleted_writes_nothing_more(tmp_path, monkeypatch, replaced, chunks):
    """Another process could have made and locked another file, and trained the run since."""
    path, take, seen = tmp_path / "run", record.Recorder.take, []

    def delete(self, outcome):
        ended = take(self, outcome)
        seen.append(outcome)
        if len(seen) == chunks:
            (path / folder.LOCK).unlink()
            if replaced:
                (path / folder.LOCK).write_text("process 1 on another machine\n")
            seen.append(contents(path))
        return ended

    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "take", delete)
        with refused(r"its file \.lock was deleted", 5):
            TINY.run(path, checkpoint_seconds=0)
    assert contents(path) == seen[-1]
    assert TINY.run(path).finished, "the same command continues"


@pytest.mark.parametrize("call", ["append_row", "finish"])
def test_a_deleted_lock_is_found_before_a_row_and_the_results_are_written(tmp_path, monkeypatch, call):
    path = tmp_path / "run"

    def stand_in(real):
        def delete(*args):
            (path / folder.LOCK).unlink()
            seen.append(contents(path))
            return real(*args)

        return delete

    seen = []
    where, name = (record, call) if call == "append_row" else (record.Recorder, call)
    monkeypatch.setattr(where, name, stand_in(getattr(where, name)))
    with refused(r"its file \.lock was deleted", 5):
        TINY.run(path)
    assert contents(path) == seen[-1]


def test_a_lock_that_is_deleted_before_it_is_locked_does_not_count(tmp_path, monkeypatch):
    flock = fcntl.flock

    def late(file, operation):
        (tmp_path / folder.LOCK).unlink()
        (tmp_path / folder.LOCK).write_text("process 1 on another machine\n")
        monkeypatch.setattr(fcntl, "flock", flock)
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with refused(r"\.lock was deleted", 5), folder.lock(tmp_path):
        pass


@pytest.mark.parametrize("use", ["begins", "continues"])
def test_a_lock_with_a_second_name_is_refused_and_its_file_is_unchanged(tmp_path, stopped, use):
    """The process that locks it would write its name into the file of the user."""
    mine, path = tmp_path / "thesis.tex", stopped if use == "continues" else tmp_path / "run"
    mine.write_text("precious")
    path.mkdir(exist_ok=True)
    (path / folder.LOCK).unlink(missing_ok=True)
    os.link(mine, path / folder.LOCK)
    before = contents(path)
    with refused(f"{path / folder.LOCK} has a second name elsewhere, and is left as it is; remove it"):
        (FULL if use == "continues" else TINY).run(path)
    assert (mine.read_text(), contents(path)) == ("precious", before)
    (path / folder.LOCK).unlink()
    assert (FULL if use == "continues" else TINY).run(path).finished


HOLDS = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_has_locked_is_exit_5_with_its_name(stopped):
    assert not folder.is_locked(stopped.parent)
    (stopped / folder.LOCK).write_text("process 7 on abacus\n")
    before = contents(stopped)
    command = [sys.executable, "-c", HOLDS, stopped / folder.LOCK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        assert folder.is_locked(stopped)
        with refused(f"{stopped} is in use by process 7 on abacus; wait for it, or choose another folder", 5):
            FULL.run(stopped)
        assert contents(stopped) == before
        other.communicate()
    assert not folder.is_locked(stopped)
    with folder.lock(stopped):
        assert folder.is_locked(stopped)
        assert f"process {os.getpid()} on " in (stopped / folder.LOCK).read_text()


def test_a_reader_of_the_lock_does_not_refuse_the_next_process(tmp_path, monkeypatch):
    """`is_locked` holds it for a moment, and so it is tried again."""
    flock, tried = fcntl.flock, []

    def busy(file, operation):
        tried.append(operation)
        if len(tried) < 4:
            raise BlockingIOError
        return flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", busy)
    with folder.lock(tmp_path):
        assert len(tried) == 4


def test_a_folder_in_which_nothing_could_be_written_is_removed_again(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "open_plain", full)
    with refused("No space left on device", 6), folder.lock(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()

"""The lock of a folder: what happens if its file is deleted, linked, or held by another process."""

import fcntl
import os
import socket

import pytest
from support.crash import contents
from support.tiny import FULL, TINY, refused

from seqjax.runs import listen, saving
from seqjax.runs.files import folder


@pytest.mark.parametrize(("call", "is_replaced"), [("save", False), ("append_row", True), ("end", False)])
def test_a_process_whose_lock_was_deleted_writes_nothing_more(tmp_path, monkeypatch, call, is_replaced):
    """Another process could have made and locked another file, and trained the run since."""
    path, seen = tmp_path / "run", []
    owner = saving if call == "append_row" else listen.Training
    real = getattr(owner, call)

    def delete(*args):
        (path / folder.LOCK).unlink()
        if is_replaced:
            (path / folder.LOCK).write_text("process 1 on another machine\n")
        seen.append(contents(path))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, call, delete)
        with refused(r"its file \.lock was deleted", 5):
            TINY.run(path, checkpoint_seconds=0)
    assert [contents(path)] == seen
    assert TINY.run(path).finished, "the same command continues"


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


def test_a_lock_with_a_second_name_is_refused_and_its_file_is_unchanged(tmp_path, stopped):
    """The process that locks it would write its name into the file of the user."""
    mine = tmp_path / "thesis.tex"
    mine.write_text("precious")
    (stopped / folder.LOCK).unlink()
    os.link(mine, stopped / folder.LOCK)
    before = contents(stopped)
    with refused(f"{stopped / folder.LOCK} has a second name elsewhere, and is left as it is; remove it"):
        FULL.run(stopped)
    assert (mine.read_text(), contents(stopped)) == ("precious", before)


def test_a_folder_that_another_process_has_locked_is_exit_5_with_its_name(stopped, finished):
    """A lock of the kernel belongs to a file that was opened, so that another opening here is like another process."""
    assert not folder.is_locked(stopped.parent)
    before = contents(stopped)
    for path in (stopped, finished):
        (path / folder.LOCK).write_text("process 7 on abacus\n")
    with (stopped / folder.LOCK).open() as one, (finished / folder.LOCK).open() as other:
        for file in (one, other):
            fcntl.flock(file, fcntl.LOCK_EX)
        assert folder.is_locked(stopped)
        with refused(f"{stopped} is in use by process 7 on abacus; wait for it, or choose another folder", 5):
            FULL.run(stopped)
        assert contents(stopped) == before | {folder.LOCK: b"process 7 on abacus\n"}
        assert FULL.run(finished).finished, "a run that has ended is opened meanwhile"
    assert not folder.is_locked(stopped)
    with folder.lock(stopped):
        assert folder.is_locked(stopped)
        assert f"process {os.getpid()} on {socket.gethostname()}" in (stopped / folder.LOCK).read_text()


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

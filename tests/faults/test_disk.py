"""The states of a folder that a power cut can leave, for a few calls that are written down here."""

import os
import sys

import pytest

from faults.calls import Call, watched
from faults.disk import Disk, key

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def write(path, data, sync):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def states(root, work):
    """What a power cut can leave after `work`."""
    disk = Disk(root)
    with watched(root, disk.before, disk.after):
        work()
    return {key(state) for state in disk.states()}


def test_a_file_that_was_not_synced_may_be_missing_empty_cut_or_zeros(tmp_path):
    found = states(tmp_path, lambda: write(tmp_path / "a", b"data", sync=False))
    assert found == {(), *((("a", data),) for data in (b"data", b"", b"da", b"\x00\x00\x00\x00"))}


def test_a_file_that_was_synced_is_whole_or_missing(tmp_path):
    found = states(tmp_path, lambda: write(tmp_path / "a", b"data", sync=True))
    assert found == {(), (("a", b"data"),)}


@pytest.mark.parametrize("sync", [True, False])
def test_a_rename_leaves_the_old_file_or_the_new_one_which_is_whole_only_if_it_was_synced(tmp_path, sync):
    (tmp_path / "a").write_bytes(b"old.")

    def work():
        write(tmp_path / "a.part", b"new.", sync)
        os.replace(tmp_path / "a.part", tmp_path / "a")

    found = states(tmp_path, work)
    torn = set() if sync else {(("a", data),) for data in (b"", b"ne", bytes(4))}
    assert found == {(("a", b"old."),), (("a", b"new."),), *torn}


def test_after_an_fsync_of_the_folder_there_is_one_state(tmp_path):
    def work():
        write(tmp_path / "a", b"data", sync=True)
        folder = os.open(tmp_path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    assert states(tmp_path, work) == {(("a", b"data"),)}


def test_what_was_appended_may_be_lost_and_what_was_synced_before_is_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"old.")

    def work():
        with os.fdopen(os.open(tmp_path / "a", os.O_WRONLY | os.O_APPEND), "ab") as file:
            file.write(b"new.")

    expected = (b"old.", b"old.new.", b"old.ne", b"old." + bytes(4))
    assert states(tmp_path, work) == {(("a", data),) for data in expected}


def test_a_deleted_file_may_be_there_still(tmp_path):
    (tmp_path / "a").write_bytes(b"old.")
    assert states(tmp_path, (tmp_path / "a").unlink) == {(), (("a", b"old."),)}


def test_a_folder_that_was_not_synced_may_be_missing_with_what_is_in_it(tmp_path):
    def work():
        (tmp_path / "b").mkdir()
        write(tmp_path / "b" / "a", b"data", sync=True)

    assert states(tmp_path, work) == {(), (("b", None),), (("b", None), ("b/a", b"data"))}


def test_calls_are_seen_in_their_order_and_a_write_counts_as_two(tmp_path):
    seen = []
    with watched(tmp_path, seen.append):
        write(tmp_path / "a", b"data", sync=True)
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b").unlink()
        (tmp_path / "c").mkdir()
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path.parent / "elsewhere").mkdir()
    names = ["open", "write", "write", "fsync", "replace", "unlink", "mkdir"]
    paths = ["a", "a", "a", "a", "b", "b", "c"]
    assert [(call.name, call.path.name) for call in seen] == list(zip(names, paths, strict=True))


def test_an_exception_before_a_call_ends_a_write_in_its_middle(tmp_path):
    def fail(call: Call):
        seen.append(call)
        if len(seen) == 3:
            raise OSError(28, "No space left on device")

    seen = []
    with watched(tmp_path, fail), pytest.raises(OSError, match="No space"):
        write(tmp_path / "a", b"data", sync=True)
    assert (tmp_path / "a").read_bytes()[:2] == b"da"

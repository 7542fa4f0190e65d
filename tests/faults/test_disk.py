"""The states of a folder that a power cut can leave, for a few calls that are written down here."""

import os
import sys

import pytest

from faults.calls import watched
from faults.disk import Disk, key

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def write(path, data, sync):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def append(root):
    with os.fdopen(os.open(root / "a", os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(b"new.")


def replace(root, is_synced):
    write(root / "b", b"new.", is_synced)
    os.replace(root / "b", root / "a")


def in_a_folder(root):
    (root / "b").mkdir()
    write(root / "b" / "a", b"data", sync=True)


def of_a(*contents):
    """The states in which there is a file `a` with this content; None: in which there is none."""
    return {() if data is None else (("a", data),) for data in contents}


CUTS = {
    "not synced": (None, lambda root: write(root / "a", b"data", False), of_a(None, b"data", b"", b"da", bytes(4))),
    "synced": (None, lambda root: write(root / "a", b"data", True), of_a(None, b"data")),
    "synced, and its folder": (None, lambda root: (write(root / "a", b"data", True), sync(root)), of_a(b"data")),
    "renamed": (b"old.", lambda root: replace(root, True), of_a(b"old.", b"new.")),
    "renamed, not synced": (b"old.", lambda root: replace(root, False), of_a(b"old.", b"new.", b"", b"ne", bytes(4))),
    "appended, not synced": (b"old.", append, of_a(b"old.", b"old.new.", b"old.ne", b"old." + bytes(4))),
    "deleted": (b"old.", lambda root: (root / "a").unlink(), of_a(b"old.", None)),
    "in a new folder": (None, in_a_folder, {(), (("b", None),), (("b", None), ("b/a", b"data"))}),
}
"""What happened -> what the file has before, what is done, and the states that may be left: a file may be missing, old,
new, empty, cut or zeros."""


@pytest.mark.parametrize("name", CUTS)
def test_what_a_power_cut_may_leave(tmp_path, name):
    before, work, expected = CUTS[name]
    if before is not None:
        (tmp_path / "a").write_bytes(before)
    disk = Disk(tmp_path)
    with watched(tmp_path, disk.before, disk.after):
        work(tmp_path)
    assert {key(state) for state in disk.states()} == expected


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

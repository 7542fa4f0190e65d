"""Files that the user names are read without waiting for what gives nothing, or gives without an end."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from seqjax import Error
from seqjax.files import disk_errors, read_named, read_plain, write
from seqjax.memory import memory_bytes


def test_a_pipe_to_which_nobody_writes_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Error, match="is a pipe that is empty"):
        read_named(tmp_path / "pipe")


def test_a_pipe_is_read_up_to_its_end():
    read, write = os.pipe()
    text = b"the cat sat on the mat. " * 10_000
    writer = threading.Thread(target=lambda: (os.write(write, text), os.close(write)))
    writer.start()
    assert read_named(f"/dev/fd/{read}") == text
    writer.join()
    os.close(read)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/random"])
def test_a_device_is_refused(device, tmp_path):
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        with pytest.raises(Error, match="is a device"):
            read_named(path)


def test_a_folder_is_an_error_of_the_system(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_named(tmp_path)


def test_a_link_of_the_user_is_followed(tmp_path):
    (tmp_path / "text").write_bytes(b"text")
    (tmp_path / "link").symlink_to("text")
    assert read_named(tmp_path / "link") == b"text"


@pytest.mark.parametrize("read", [read_named, read_plain])
def test_a_file_that_is_larger_than_the_memory_is_not_read(tmp_path, read):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", memory_bytes() + 1)
    with pytest.raises(Error, match=r"the bytes of .*large take") as caught:
        read(tmp_path / "large")
    assert caught.value.exit_code == 6


def test_a_name_that_no_file_can_have_is_bad_input(tmp_path):
    with pytest.raises(Error, match="name too long") as caught, disk_errors(tmp_path):
        (tmp_path / ("a" * 300)).mkdir()
    assert caught.value.exit_code == 2


def test_a_write_removes_what_earlier_ones_of_the_file_left_and_nothing_else(tmp_path):
    """A file is left over if no process has its lock, which the kernel releases when a process ends."""
    own, of_another = (f"{name}.{'0' * 16}.part" for name in ("file", "other"))
    kept = {of_another, "file.part", f"file.{'x' * 16}.part", f"file.{'1' * 16}.part", f"file.{'2' * 16}.part"}
    for name in {own, *kept}:
        (tmp_path / name).write_text("half")
    (tmp_path / f"file.{'2' * 16}.part").unlink()
    (tmp_path / f"file.{'2' * 16}.part").symlink_to(of_another)
    with (tmp_path / f"file.{'1' * 16}.part").open("rb") as file:  # that of another process, which is not killed
        fcntl.flock(file, fcntl.LOCK_EX)
        write(tmp_path / "file", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"file", *kept}
    write(tmp_path / "file", "again")
    assert not (tmp_path / f"file.{'1' * 16}.part").exists()
    assert (tmp_path / "file").read_text() == "again"


WRITER = """
import sys
from pathlib import Path
from seqjax.files import write
for n in range(int(sys.argv[2])):
    write(Path(sys.argv[1]), sys.argv[3] * 1000)
"""


def test_processes_that_write_one_file_at_once_do_not_disturb_each_other(tmp_path):
    file = tmp_path / "file"
    commands = [[sys.executable, "-c", WRITER, str(file), "300", letter] for letter in "abc"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 3
    assert file.read_text() in {letter * 1000 for letter in "abc"}
    assert list(tmp_path.iterdir()) == [file]


def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Error, match="not a plain file"):
        write(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(Error, match="not a plain file"):
        write(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()

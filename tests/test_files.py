"""Files that the user names are read without waiting for what gives nothing, or gives without an end."""

import os
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


def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Error, match="not a plain file"):
        write(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(Error, match="not a plain file"):
        write(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()

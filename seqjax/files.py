"""Writes files whole or not at all, and never through a link; reads files without waiting for a device or a pipe."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from seqjax.errors import Error, check_type
from seqjax.memory import check_memory

PART = ".part"
"""The ending of a file that is being written."""
PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Pattern of the name of a file or folder, if the name was read from data."""
LONGEST_PIPE = 2**30
"""The largest number of bytes that are read from a pipe."""
WRONG_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
"""The errors of the system about names that no file can have."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into an `Error` with exit code 6."""
    try:
        yield
    except OSError as fault:
        reason, code = fault.strerror or fault, 2 if fault.errno in WRONG_NAMES else 6
        # The temporary name of `write` says nothing to a user.
        is_known = fault.filename is not None and not str(fault.filename).endswith(PART)
        name = fault.filename if is_known else path
        raise Error(f"{name} cannot be written: {reason}; try another folder", exit_code=code) from fault


def path_of(name: str, path: Any) -> Path:
    """The path that an argument names. There need not be a file.

    Args:
        name: the name of the argument, for messages.
        path: its value.

    Raises:
        Error: it is no path, or one that no file can have.
    """
    check_type(name, path, str | os.PathLike, "the path of a file or a folder, as a text or a pathlib.Path")
    if not os.fspath(path):
        raise Error(f"{name} = {path!r}: pass a path that is not empty")
    try:
        os.lstat(path)
    except (OSError, ValueError) as fault:
        if isinstance(fault, ValueError) or fault.errno in WRONG_NAMES:
            reason = getattr(fault, "strerror", None) or fault
            raise Error(f"{name} = {str(path)!r:.80}: {reason}; choose another name") from fault
    return Path(path)


def not_plain(path: Path) -> Error:
    """The error about a path that is no plain file."""
    return Error(f"{path} is not a plain file, and is left as it is; remove it, or choose another folder", exit_code=4)


def open_plain(path: Path, flags: int) -> IO[bytes]:
    """Opens a plain file. Links, devices and pipes are errors, so that nothing outside the folder is touched.

    Args:
        path: the file.
        flags: flags of `os.open`, such as `os.O_RDWR | os.O_CREAT`.

    Raises:
        Error: exit code 4: the path is not a plain file.
        OSError: the file cannot be opened.
    """
    if path.is_symlink():
        raise not_plain(path)
    # O_NOFOLLOW: the file may become a link after the test above. O_NONBLOCK: opening a pipe may wait forever.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_plain(path)
    mode = "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "ab" if flags & os.O_APPEND else "r+b"
    return os.fdopen(descriptor, mode)


def read_plain(path: Path) -> bytes:
    """The bytes of a plain file, which is opened by `open_plain`.

    Raises:
        Error: exit code 4: it is not a plain file; 6: it is larger than the memory.
        OSError: it cannot be read.
    """
    with open_plain(path, os.O_RDONLY) as file:
        return _read(path, file)


def read_named(path: str | Path) -> bytes:
    """The bytes of a file that the user named. It may be a link, or a pipe such as `<(command)` of a shell.

    Raises:
        Error: it is a device; a pipe that nobody writes to, or that gives too much.
        OSError: it cannot be read.
        ValueError: it has a name that no file can have.
    """
    # O_NONBLOCK: opening a pipe to which no process writes would wait forever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise Error(f"{path} is a device, and not a file or a pipe")
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISREG(mode):
            return _read(path, file)
        os.set_blocking(descriptor, True)
        data = file.read(LONGEST_PIPE + 1)
    if not data:
        raise Error(f"{path} is a pipe that is empty, or that was read before; write its text to a file")
    if len(data) > LONGEST_PIPE:
        raise Error(f"{path} is a pipe, and gives more than {LONGEST_PIPE:,} bytes; write its text to a file")
    return data


def _read(path: str | Path, file: IO[bytes]) -> bytes:
    """The bytes of a file that is open, unless they are more than the memory."""
    check_memory(f"the bytes of {path}", os.fstat(file.fileno()).st_size, "No file was touched; use a smaller one")
    return file.read()


def write(path: Path, data: str | bytes) -> None:
    """Writes a file whole or not at all, and syncs it to disk.

    The temporary name cannot be guessed, and a link at `path` is replaced, not followed. The incomplete files that
    earlier writes of this file left, when they were killed, are removed.
    """
    if not path.name:
        raise Error(f"{path} is a folder; name a file in it")
    with disk_errors(path):
        # Otherwise a device, such as /dev/null, or a pipe would be replaced by a file. A folder cannot be replaced.
        if stat.S_IFMT(_mode(path)) not in (0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
            raise not_plain(path)
        _remove_left_over(path)
        file, part = _open_part(path)
        try:
            with file:
                file.write(data.encode("utf-8") if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, path)  # while it is locked, so that no process takes it for a left-over file
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _open_part(path: Path) -> tuple[IO[bytes], Path]:
    """A new file with a temporary name beside `path`, locked until it is closed, and its name."""
    while True:
        part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
        file = open_plain(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            # Where the file system has no locks, no process can lock it to remove it.
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file, part
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        file.close()  # another process has removed it, between the calls that made and locked it


def _remove_left_over(path: Path) -> None:
    """Removes the files that writes of `path` left when they were killed: the lock of a process ends with it."""
    temporary = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{16}}{re.escape(PART)}")
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder that is missing, or that may not be listed
        names = os.listdir(path.parent)
    for part in [path.parent / name for name in names if temporary.fullmatch(name)]:
        # Each of them may be gone by now, be locked, or be no plain file, and then stays as it is.
        with contextlib.suppress(OSError, Error), open_plain(part, os.O_RDWR) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def replace(path: Path, data: bytes, mark: bytes) -> None:
    """Writes a file that is made for people, such as a figure. It replaces an earlier one of its kind and nothing else.

    Args:
        path: the file.
        data: its content.
        mark: what all files of its kind have among their first 1,000 bytes.

    Raises:
        Error: there is a file of another kind.
    """
    check_replaceable(path, mark)
    write(path, data)


def check_replaceable(path: Path, mark: bytes) -> None:
    """Raises an `Error` if `replace` would: it is called before work that takes long."""
    with disk_errors(path):
        if not path.is_file():
            return
        with path.open("rb") as file:
            head = file.read(1000)
    if mark not in head:
        # An empty file may be one that another program is about to fill.
        what = "another kind of file" if head else "an empty file"
        raise Error(f"{path} exists, and is {what}; name a new file, or remove this one first")


def _mode(path: Path) -> int:
    """What is at a path, as `os.lstat` says it; 0 if nothing is."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def make_folder(path: Path) -> None:
    """Makes a folder and the folders above it, and syncs the folder that holds each new one to disk."""
    if path.is_dir():
        return
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Syncs the content of a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

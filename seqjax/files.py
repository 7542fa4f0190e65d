"""Writes files whole or not at all, and never through a link."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from seqjax.errors import Error

PART = ".part"
"""The ending of a file that is being written."""
PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Pattern of the name of a file or folder, if the name was read from data."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into an `Error` with exit code 6."""
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or fault
        raise Error(f"{fault.filename or path} cannot be written: {reason}; try another folder", exit_code=6) from fault


def open_plain(path: Path, flags: int) -> IO[bytes]:
    """Opens a plain file. Links, devices and pipes are errors, so that nothing outside the folder is touched.

    Args:
        path: the file.
        flags: flags of `os.open`, such as `os.O_RDWR | os.O_CREAT`.

    Raises:
        Error: exit code 4: the path is not a plain file.
        OSError: the file cannot be opened.
    """
    not_plain = Error(
        f"{path} is not a plain file, and is left as it is; remove it, or choose another folder", exit_code=4
    )
    if path.is_symlink():
        raise not_plain
    # O_NOFOLLOW: the file may become a link after the test above. O_NONBLOCK: opening a pipe may wait forever.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_plain
    mode = "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "ab" if flags & os.O_APPEND else "r+b"
    return os.fdopen(descriptor, mode)


def write(path: Path, data: str | bytes) -> None:
    """Writes a file whole or not at all, and syncs it to disk.

    The temporary name cannot be guessed, and a link at `path` is replaced, not followed.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
    with disk_errors(path):
        try:
            with open_plain(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                file.write(data.encode("utf-8") if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """Syncs the content of a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The folder of a run: the names of its files, its lock, and how a file in it is read."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from seqjax.array_files.saved_file import missing
from seqjax.errors import Error
from seqjax.files import PART, disk_errors, make_folder, open_plain

CONFIG, ENVIRONMENT, CODEC, METRICS = "config.toml", "environment.json", "codec.json", "metrics.jsonl"
PARAMS, BEST, SAMPLES, HISTORY = "params.safetensors", "best.safetensors", "samples.txt", "history.png"
INDEX = "sweep.json"
"""The file in the folder of a sweep that lists the folders of its runs."""
MANIFEST, LOCK, CHECKPOINTS, PLUGINS, TRACKING = "manifest.json", ".lock", "checkpoints", "plugins", "tracking"
DATA = {"dataset": "data.safetensors", "heldout": "heldout.safetensors"}
"""Field of an experiment -> the file of data that were given there in memory."""
FIRST = (LOCK, ENVIRONMENT, CODEC, METRICS, PLUGINS, *DATA.values(), MANIFEST, CONFIG)
"""The files that are written before training; the config is the last one, and marks the folder as a run."""
RESULTS = (METRICS, PARAMS, BEST, SAMPLES, HISTORY)
"""The files of a run that has ended. The manifest lists them from the end of training on."""
_held: dict[Path, IO[bytes]] = {}
"""The folders that this process has locked -> the open files of their locks."""


def inner_folder(path: Path, name: str) -> Path:
    """A folder inside that of a run or a sweep, which need not exist.

    Raises:
        Error: exit code 4: it is a link, through which files elsewhere would be written or deleted.
    """
    inner = path / name
    if inner.is_symlink():
        raise Error(f"{inner} is a link, and is left as it is; remove it, or choose another folder", exit_code=4)
    return inner


@contextlib.contextmanager
def lock(path: Path, advice: str = "wait for it, or choose another folder") -> Iterator[None]:
    """Makes and locks a folder; the kernel releases the lock when this process ends.

    Args:
        path: the folder.
        advice: what the error says to do.

    Raises:
        Error: exit code 5: another process has locked it; 4: the lock is a link.
    """
    with contextlib.ExitStack() as stack:
        if not path.is_dir():
            stack.callback(remove_if_empty, path)
        with disk_errors(path):
            make_folder(path)
            file = stack.enter_context(open_plain(path / LOCK, os.O_RDWR | os.O_CREAT))
            if os.fstat(file.fileno()).st_nlink > 1:  # the file of the other name would be overwritten
                raise Error(f"{path / LOCK} has a second name elsewhere, and is left as it is; remove it", exit_code=4)
            if not _flock(file):
                owner = file.read(1000).decode("utf-8", "replace").strip() or "another process"
                raise Error(f"{path} is in use by {owner}; {advice}", exit_code=5)
            file.truncate(0)
            # Without the buffer of the file: what it cannot write would be written again when the file is closed.
            raw: IO[bytes] = file.raw  # type: ignore[attr-defined]
            raw.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        _held[path] = file
        stack.callback(_held.pop, path)
        check_lock(path)  # its file may have been deleted after it was opened, and before it was locked
        yield


def check_lock(path: Path) -> None:
    """Checks that a folder that this process has locked still has the file of the lock, before it is written to.

    Raises:
        Error: exit code 5: the file was deleted or replaced, so that another process may have locked the folder too.
    """
    if path not in _held:
        return
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(_held[path].fileno()), os.stat(path / LOCK, follow_symlinks=False)):
            return
    raise Error(
        f"{path}: its file {LOCK} was deleted while this process used the folder, so that another process may use it "
        "too\nNothing was written since this was found. If no other process trains the run, type the same command "
        "again: it continues from the last checkpoint",
        exit_code=5,
    )


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    return is_file_locked(path / LOCK)


def is_file_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file, which need not exist."""
    if not path.is_file():
        return False
    with disk_errors(path), open_plain(path, os.O_RDONLY) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _flock(file: IO[bytes]) -> bool:
    """Locks a file, and returns whether it could. `is_locked` locks it for a moment too, so that it is tried again."""
    for seconds in (0.02, 0.05, 0.1, 0):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(seconds)
    return False


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, which its config marks.

    Raises:
        Error: exit code 4: it has a manifest and parameters or checkpoints, and its config is missing.
    """
    if (path / CONFIG).is_file():
        return True
    # A kill may leave a new run with a manifest and without its config, but then it is not trained.
    if (path / MANIFEST).is_file() and ((path / PARAMS).is_file() or (path / CHECKPOINTS).is_dir()):
        raise missing(path / CONFIG)
    return False


def remove_if_empty(path: Path) -> None:
    """Removes a folder in which nothing could be written."""
    with contextlib.suppress(OSError):
        path.rmdir()


def remove_parts(*paths: Path) -> None:
    """Removes incomplete files that a kill has left in some folders. The caller must hold the lock."""
    for path in paths:
        with disk_errors(path):
            for part in path.glob(f"*{PART}"):
                part.unlink()

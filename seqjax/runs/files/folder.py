"""The folder of a run: the names of its files, its lock, and how a file in it is read."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import safetensors
from pydantic import TypeAdapter, ValidationError

from seqjax.errors import Error
from seqjax.files import PART, disk_errors, make_folder, open_plain, read_plain

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
READ_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
    safetensors.SafetensorError,
)
"""What reading a damaged file may raise."""
LONGEST_TABLE = 2**26
"""The largest number of bytes of a file of JSON or TOML, but for a codec, whose size the manifest knows."""
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
        raise _missing(path / CONFIG)
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


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A context in which a file of a saved run is read and parsed.

    Raises:
        Error: exit code 4: the file is missing or damaged; 6: it may not be read, or is larger than the memory.
    """
    try:
        yield
    except PermissionError as fault:
        raise Error(f"{path} may not be read: {fault.strerror}; no file was touched", exit_code=6) from fault
    except FileNotFoundError as fault:
        raise _missing(path) from fault
    except READ_ERRORS as fault:
        if isinstance(fault, Error) and fault.exit_code in (4, 6):
            raise
        reason = str(fault) if type(fault) is ValueError else f"{type(fault).__name__}: {fault}"
        raise Error(
            f"{path} is damaged, or another version of seqjax has written it ({reason})\n"
            "No file was touched. Restore the old file, or choose another folder",
            exit_code=4,
        ) from fault


def _missing(file: Path) -> Error:
    return Error(f"{file} is missing; no file was touched. Restore it, or choose another folder", exit_code=4)


def read[T](path: Path, parse: Callable[[bytes], T]) -> T:
    """Reads a file of a saved run, and returns the result of `parse`. Raises what `reading` does."""
    with reading(path):
        is_table = path.suffix in (".json", ".toml", ".code") and path.name != CODEC
        if is_table and (size := path.lstat().st_size) > LONGEST_TABLE:
            raise ValueError(f"it has {size:,} bytes, more than {LONGEST_TABLE:,}")
        return parse(read_plain(path))


def read_text(path: Path) -> str:
    """The text of a UTF-8 file of a saved run, as `read` reads it."""
    return read(path, lambda data: data.decode("utf-8"))


def from_json[T](form: TypeAdapter[T], data: bytes | str) -> T:
    """The value of a JSON text; a `ValueError` of one line if it is of another form."""
    with _one_line():
        return form.validate_json(data, strict=True)


def checked[T](form: TypeAdapter[T], value: Any) -> T:
    """A value of JSON that was parsed, as `from_json` returns it."""
    with _one_line():
        return form.validate_python(value, strict=True)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except ValidationError as fault:
        first = fault.errors()[0]
        raise ValueError(f"{'/'.join(map(str, first['loc']))}: {first['msg']}") from fault

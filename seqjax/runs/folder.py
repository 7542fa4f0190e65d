"""The folder of a run: the names of its files, and functions that write and read them."""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import safetensors

from seqjax.data.dataset import Data, Pairs, Series, Text
from seqjax.data.spec import Spec
from seqjax.errors import Error
from seqjax.files import PART, disk_errors, make_folder, open_plain, read_plain, write
from seqjax.plugin import config
from seqjax.runs.arrays import load_arrays, save_arrays

CONFIG, ENVIRONMENT, METRICS, CODEC = "config.toml", "environment.json", "metrics.jsonl", "codec.json"
PARAMS, SAMPLES, HISTORY, PLUGINS = "params.safetensors", "samples.txt", "history.png", "plugins"
CHECKPOINTS, LOCK, DIVERGED, STOPPED = "checkpoints", ".lock", "diverged.txt", "stopped.txt"
BEST, TRACKING, MANIFEST = "best.safetensors", "tracking", "manifest.json"
DATA = {"dataset": "data.safetensors", "heldout": "heldout.safetensors"}
"""Field of an experiment -> the file of data that were given there in memory."""
FIRST = (LOCK, ENVIRONMENT, CODEC, METRICS, PLUGINS, *DATA.values(), MANIFEST, CONFIG)
"""The files that are written before training; the config is the last one."""
DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
    safetensors.SafetensorError,
)
"""What reading a damaged file may raise."""
BOUND = (CONFIG, CODEC)
"""The files whose hashes are kept in each checkpoint and beside the parameters."""
_held: dict[Path, IO[bytes]] = {}
"""The folders that this process has locked -> the open files of their locks."""


def inner_folder(path: Path, name: str) -> Path:
    """A folder inside that of a run or a sweep, which need not exist.

    Raises:
        Error: exit code 4: it is a link, through which files elsewhere would be written or deleted.
    """
    found = path / name
    if found.is_symlink():
        raise Error(f"{found} is a link, and is left as it is; remove it, or choose another folder", exit_code=4)
    return found


@contextlib.contextmanager
def lock(path: Path, advice: str = "wait for it, or choose another folder") -> Iterator[None]:
    """Makes and locks a folder; the kernel releases the lock when this process ends.

    Args:
        path: the folder.
        advice: what the error says to do.

    Raises:
        Error: exit code 5: another process has locked it.
    """
    with contextlib.ExitStack() as stack:
        if not path.is_dir():
            stack.callback(_remove_if_empty, path)
        with disk_errors(path):
            make_folder(path)
            file = stack.enter_context(open_plain(path / LOCK, os.O_RDWR | os.O_CREAT))
            if not _flock(file):
                owner = file.read().decode("utf-8", "replace").strip() or "another process"
                raise Error(f"{path} is in use by {owner}; {advice}", exit_code=5)
            file.truncate(0)
            # Without the buffer of the file: what it cannot write would be written again when the file is closed.
            raw: IO[bytes] = file.raw  # type: ignore[attr-defined]
            raw.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            if not _excludes(path):
                warnings.warn(
                    f"{path}: this file system keeps no locks, so that a second process could train this run at the "
                    "same time, and spoil it: start only one",
                    stacklevel=3,
                )
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
        "again: it goes on from the last checkpoint",
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
    for seconds in (0.02, 0.05, 0.1, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if seconds is not None:
                time.sleep(seconds)
        else:
            return True
    return False


def _remove_if_empty(path: Path) -> None:
    """Removes a folder in which nothing could be written."""
    with contextlib.suppress(OSError):
        path.rmdir()


def _excludes(path: Path) -> bool:
    """Whether the lock that this process has on a folder keeps others out: some network file systems ignore locks."""
    with open_plain(path / LOCK, os.O_RDWR) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_parts(path: Path) -> None:
    """Removes incomplete files that a kill has left. The caller must hold the lock."""
    with disk_errors(path):
        for part in path.glob(f"*{PART}"):
            part.unlink()


def read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """Reads a file of a saved run, and returns the result of `parse`.

    Raises:
        Error: exit code 4: the file is missing or damaged; 6: it may not be read, or is larger than the memory.
    """
    try:
        return parse(read_plain(path))
    except PermissionError as fault:
        raise Error(f"{path} may not be read: {fault.strerror}; no file was touched", exit_code=6) from fault
    except FileNotFoundError as fault:
        raise Error(
            f"{path} is missing; no file was touched. Restore it, or choose another folder", exit_code=4
        ) from fault
    except DAMAGED as fault:
        if isinstance(fault, Error) and fault.exit_code in (4, 6):
            raise
        reason = str(fault) if type(fault) is ValueError else f"{type(fault).__name__}: {fault}"
        raise Error(
            f"{path} is damaged, or another version of seqjax has written it ({reason})\n"
            "No file was touched. Restore the old file, or choose another folder",
            exit_code=4,
        ) from fault


def write_stopped(path: Path, epoch: int) -> None:
    """Writes that training ends after this epoch."""
    write(path / STOPPED, f"the callback ended training after epoch {epoch}\n")


def read_stopped(path: Path) -> int | None:
    """The epoch after which training ends because the callback asked for it, if it did."""
    if not (path / STOPPED).is_file():
        return None
    return read(path / STOPPED, lambda data: int(data.split()[-1]))


def write_data(path: Path, field: str, data: Data) -> None:
    """Writes data that were given in memory, as this field of the experiment, to a file of the run."""
    spec = data.spec.to_dict() if isinstance(data, Pairs) and data.spec else None
    names = list(getattr(data, "names", ()))
    header = {"form": type(data).__name__, "source": data.source, "names": names, "spec": spec}
    header["sha256"] = _text_sha256(json.dumps(header))
    write(path / DATA[field], save_arrays(data.arrays | {"bounds": data.bounds}, header))


def read_data(path: Path, field: str, sha256: str) -> Data:
    """The data that were given in memory as this field of the experiment; an `Error` unless they have this hash."""

    def parse(file):
        arrays, header = load_arrays(file)
        plain = {name: header[name] for name in ("form", "source", "names", "spec")}
        if header["sha256"] != _text_sha256(json.dumps(plain)):
            raise ValueError("its header has another hash")
        bounds = arrays["bounds"]
        found: Data
        if header["form"] == "Text":
            found = Text(arrays["text"].tobytes().decode("utf-8", "surrogatepass"), header["source"], bounds)
        elif header["form"] == "Series":
            found = Series(arrays["values"], header["names"], header["source"], bounds)
        else:
            spec = Spec.from_dict(header["spec"])
            found = Pairs(arrays["inputs"], arrays["targets"], arrays.get("mask"), spec, bounds, header["source"])
        if found.sha256 != sha256:
            raise ValueError(f"its sha256 is not {sha256}")
        return found

    return read(path / DATA[field], parse)


def with_data(kept: config.Config, path: Path) -> config.Config:
    """The config with data that were given in memory, which are read from the folder."""
    found = dict(kept)
    for field in DATA:
        table = kept.get(field)
        if isinstance(table, dict) and table.get("plugin") == config.IN_MEMORY:
            found[field] = read_data(path, field, str(table.get("sha256")))
    return found


def _text_sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()

"""The folder of a run: the names of its files, and functions that write and read them."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
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
from seqjax.files import PART, disk_errors, open_plain, write
from seqjax.gradients.problem import Params
from seqjax.plugin import config
from seqjax.runs.arrays import as_tree, by_name, load_arrays, save_arrays, sha256_of

CONFIG, ENVIRONMENT, METRICS, CODEC = "config.toml", "environment.json", "metrics.jsonl", "codec.json"
PARAMS, SAMPLES, HISTORY, PLUGINS = "params.safetensors", "samples.txt", "history.png", "plugins"
CHECKPOINTS, LOCK, DIVERGED, STOPPED = "checkpoints", ".lock", "diverged.txt", "stopped.txt"
BEST, TRACKING = "best.safetensors", "tracking"
DATA = {"dataset": "data.safetensors", "heldout": "heldout.safetensors"}
"""Field of an experiment -> the file of data that were given there in memory."""
FIRST = (LOCK, ENVIRONMENT, CODEC, METRICS, PLUGINS, *DATA.values(), CONFIG)
"""The files that are written before training; the config is the last one."""
BOUND = (CONFIG, CODEC)
"""The files whose hashes are kept in each checkpoint and beside the parameters."""
_EPOCHS = re.compile(rb"^epochs = \d+\n", re.MULTILINE)
"""The line of a config that says for how many epochs a run is trained, the first one of this form."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Makes and locks a folder; the kernel releases the lock when this process ends.

    Raises:
        Error: exit code 5: another process has locked it.
    """
    with contextlib.ExitStack() as stack:
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open_plain(path / LOCK, os.O_RDWR | os.O_CREAT))
            if not _flock(file):
                owner = file.read().decode("utf-8", "replace").strip() or "another process"
                raise Error(f"{path} is in use by {owner}; wait for it, or choose another folder", exit_code=5)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            file.flush()
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    if not (path / LOCK).is_file():
        return False
    with disk_errors(path), open_plain(path / LOCK, os.O_RDONLY) as file:
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


def remove_parts(path: Path) -> None:
    """Removes incomplete files that a kill has left. The caller must hold the lock."""
    with disk_errors(path):
        for part in path.glob(f"*{PART}"):
            part.unlink()


def read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """Reads a file of a saved run, and returns the result of `parse`.

    Raises:
        Error: exit code 4: the file is missing or damaged.
    """
    try:
        with open_plain(path, os.O_RDONLY) as file:
            data = file.read()
        return parse(data)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, safetensors.SafetensorError) as fault:
        if isinstance(fault, Error) and fault.exit_code == 4:
            raise
        raise Error(f"{path}: missing, damaged or written by another installation: {fault!r}", exit_code=4) from fault


def binding(path: Path) -> dict[str, str]:
    """The sha256 of each file on which the parameters of a run depend; of the config without the number of epochs."""

    def sha256(data):
        return hashlib.sha256(_EPOCHS.sub(b"", data, count=1)).hexdigest()

    return {name: read(path / name, sha256) for name in BOUND}


def check_binding(path: Path, kept: Any, of: str) -> None:
    """Raises an `Error` with exit code 4 unless the files of a run are those with which a state was trained.

    Args:
        path: the folder of the run.
        kept: the hashes that are saved with the state.
        of: the name of the state, such as "params.safetensors".
    """
    now = binding(path)
    changed = [name for name in BOUND if not isinstance(kept, dict) or kept.get(name) != now[name]]
    if changed:
        raise Error(
            f"{path}: {', '.join(changed)} changed since {of} was written, or {of} belongs to another run\n"
            "No file was touched. Restore the old files, or train in another folder",
            exit_code=4,
        )


def write_params(
    path: Path, params: Params, bound: dict[str, str], file: str = PARAMS, epoch: int | None = None
) -> None:
    """Writes parameters of a run: a safetensors file with a hash and the hashes of `binding`.

    A leaf's name is its path in the nested dict, `outer/inner`.

    Args:
        path: the folder of the run.
        params: the parameters.
        bound: the hashes of `binding`.
        file: `PARAMS` or `BEST`.
        epoch: the epoch after which the run had them; None: the last one.
    """
    arrays = by_name(params)
    write(path / file, save_arrays(arrays, {"sha256": sha256_of(arrays), "binding": bound, "epoch": epoch}))


def read_params(path: Path, like: Params | None, file: str = PARAMS, epoch: int | None = None) -> Params:
    """Parameters of the run in a folder.

    Args:
        path: the folder of the run.
        like: their structure; None: a nested dict.
        file: `PARAMS` or `BEST`.
        epoch: the epoch whose parameters they must be; None: the last one.
    """

    def parse(data):
        arrays, header = load_arrays(data)
        if header["sha256"] != sha256_of(arrays):
            raise ValueError("its hash is not that of its arrays")
        check_binding(path, header["binding"], file)
        if header["epoch"] != epoch:
            raise ValueError(f"it has the parameters after epoch {header['epoch']}, and not after epoch {epoch}")
        return as_tree(arrays, like)

    return read(path / file, parse)


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


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds a row to the metrics of a run: one line of JSON."""
    with disk_errors(path / METRICS), open_plain(path / METRICS, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        file.write(_line(row).encode())


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the metrics of a run: these rows and no others."""
    write(path / METRICS, "".join(map(_line, rows)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run, one row per epoch. An incomplete last line is left out, with a warning."""

    def parse(data):
        whole, _, torn = data.rpartition(b"\n")
        if torn:
            warnings.warn(f"{path / METRICS}: its last line is incomplete, and is left out", stacklevel=4)
        rows = [json.loads(line) for line in whole.decode("utf-8").splitlines()]
        rows = [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("its rows are not those of epochs 1, 2, ...")
        return rows

    return read(path / METRICS, parse)


def _line(row):
    """A line of JSON, in which numbers that are not finite are null."""
    plain = {key: value if math.isfinite(value) else None for key, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _text_sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()

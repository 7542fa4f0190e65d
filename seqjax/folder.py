"""The folder of a run: which files it has, and how they are written and read."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from seqjax import config
from seqjax.contracts import Params
from seqjax.corpus import Data, Pairs, Series, Text
from seqjax.errors import Error
from seqjax.specs import Spec

CONFIG, ENVIRONMENT, METRICS, CODEC = "config.toml", "environment.json", "metrics.jsonl", "codec.json"
PARAMS, SAMPLES, HISTORY, PLUGINS = "params.safetensors", "samples.txt", "history.png", "plugins"
DATA, CHECKPOINTS, LOCK, PART = "data.safetensors", "checkpoints", ".lock", ".part"
DIVERGED = "diverged.txt"
PLAIN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What a file or folder that is named by data may be called."""
FIRST = (LOCK, ENVIRONMENT, CODEC, METRICS, PLUGINS, DATA, CONFIG)
"""What a run has before training; its recipe is written last."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a lack of permission into an `Error` with exit code 6."""
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or fault
        raise Error(f"{fault.filename or path} cannot be written: {reason}; try another folder", exit_code=6) from fault


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Makes a folder, and keeps it from other processes; the kernel lets go of it when this one ends.

    Raises:
        Error: exit code 5: another process has it.
    """
    with contextlib.ExitStack() as stack:
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((path / LOCK).open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as fault:
                file.seek(0)
                owner = file.read().strip() or "another process"
                text = f"{path} is in use by {owner}; wait for it, or choose another folder"
                raise Error(text, exit_code=5) from fault
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def write(path: Path, data: str | bytes) -> None:
    """Writes a file whole or not at all, and for good."""
    part = path.with_name(path.name + PART)
    with disk_errors(path):
        try:
            with part.open("wb") as file:
                file.write(data.encode("utf-8") if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """Has the disk keep what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """What `parse` makes of a file of a saved run."""
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, safetensors.SafetensorError) as fault:
        raise Error(f"{path}: missing, damaged or of another installation: {fault!r}", exit_code=4) from fault


def write_params(path: Path, params: Params, codec: str) -> None:
    """One safetensors file with a hash; a leaf's name is its path in the nested dict, `outer/inner`.

    The hash of the codec's file, whose text is `codec`, lies beside it.
    """
    arrays = {
        leaf_name(keys): np.asarray(leaf, order="C") for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    write(path, save_arrays(arrays, {"sha256": _sha256(arrays), "codec_sha256": _text_sha256(codec)}))


def read_params(path: Path, like: Params | None, codec: str) -> Params:
    """The parameters in a file, in the structure of `like`; None: as the file has them."""

    def parse(data):
        arrays, header = load_arrays(data)
        if header["sha256"] != _sha256(arrays):
            raise ValueError("its hash is not that of its arrays")
        if header["codec_sha256"] != _text_sha256(codec):
            raise ValueError(f"it belongs to another {CODEC}")
        return _nested(arrays) if like is None else params_of(arrays, like)

    return read(path, parse)


def params_of(arrays: dict[str, np.ndarray], like: Params) -> Params:
    """Arrays by name, in the structure of `like`; a ValueError where they do not fit."""
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {leaf_name(keys): leaf.shape for keys, leaf in jax.tree_util.tree_leaves_with_path(like)}
    if shapes != expected:
        raise ValueError(f"it has the arrays {shapes}, but the model has {expected}")
    return jax.tree_util.tree_map_with_path(lambda keys, _: jax.numpy.asarray(arrays[leaf_name(keys)]), like)


def _nested(arrays):
    """Arrays by names such as `outer/inner` as a nested dict."""
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        table, (*outer, inner) = found, name.split("/")
        for key in outer:
            table = table.setdefault(key, {})
        table[inner] = jax.numpy.asarray(array)
    return found


def write_data(path: Path, data: Data) -> None:
    """Data in memory, as a file of the run."""
    spec = data.spec.to_dict() if isinstance(data, Pairs) and data.spec else None
    names = list(getattr(data, "names", ()))
    header = {"form": type(data).__name__, "source": data.source, "names": names, "spec": spec}
    header["sha256"] = _text_sha256(json.dumps(header))
    write(path, save_arrays(data.arrays | {"bounds": data.bounds}, header))


def read_data(path: Path, sha256: str) -> Data:
    """The data in a file, if they have this hash."""

    def parse(file):
        arrays, header = load_arrays(file)
        plain = {name: header[name] for name in ("form", "source", "names", "spec")}
        if header["sha256"] != _text_sha256(json.dumps(plain)):
            raise ValueError("the hash of its header is another")
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

    return read(path, parse)


def with_data(recipe: config.Config, path: Path) -> config.Config:
    """The recipe in a folder, with the data that it had in memory, which the folder keeps."""
    table = recipe.get("corpus")
    if isinstance(table, dict) and table.get("plugin") == config.IN_MEMORY:
        return recipe | {"corpus": read_data(path / DATA, str(table.get("sha256")))}
    return recipe


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one line of JSON."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """These rows and no others."""
    write(path, "".join(map(_line, rows)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows in a file; a last line that was not written to its end is left out, with a warning."""

    def parse(data):
        whole, _, torn = data.rpartition(b"\n")
        if torn:
            warnings.warn(f"{path}: its last line was not written to its end, and is left out", stacklevel=4)
        rows = [json.loads(line) for line in whole.decode("utf-8").splitlines()]
        return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]

    return read(path, parse)


def leaf_name(keys: tuple) -> str:
    """The name of a leaf of a pytree in a file, such as `params/W_hh`."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _line(row):
    """JSON, in which what is not finite is null."""
    plain = {key: value if math.isfinite(value) else None for key, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def save_arrays(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> bytes:
    """A safetensors file with a JSON header, the same bytes for the same content."""
    metadata = {"seqjax": json.dumps(header, sort_keys=True)}  # one entry, since the library does not keep their order
    for name, array in arrays.items():
        if array.dtype not in _DTYPES.values():
            raise Error(f"{name}: an array of {array.dtype} cannot be kept in a file")
    return safetensors.numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()}, metadata)


def load_arrays(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and header of a file that `save_arrays` made."""
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    arrays = {
        name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in safetensors.deserialize(data)
    }
    return arrays, json.loads(metadata["seqjax"])


_DTYPES = {
    "BF16": np.dtype(jax.dtypes.bfloat16),  # which safetensors' own loader for numpy lacks
    "BOOL": np.dtype(bool),
    "C64": np.dtype("complex64"),
    **{f"{kind.upper()}{8 * size}": np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
}


def _text_sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    """A hash of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

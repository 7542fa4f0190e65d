"""The folder of a run: which files it has, and how they are written and read."""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from seqjax import registry
from seqjax.contracts import Params
from seqjax.errors import Error
from seqjax.plugin import Plugin

CONFIG, ENVIRONMENT, METRICS, CODEC = "config.toml", "environment.json", "metrics.jsonl", "codec.json"
PARAMS, SAMPLES, HISTORY, PLUGINS = "params.safetensors", "samples.txt", "history.png", "plugins"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or a lack of permission into an `Error` with exit code 6."""
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or fault
        raise Error(f"{fault.filename or path} cannot be written: {reason}; try another folder", exit_code=6) from fault


def write(path: Path, data: str | bytes) -> None:
    """Writes a file whole or not at all."""
    with disk_errors(path):
        part = path.with_name(path.name + ".part")
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
        os.replace(part, path)


def read(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """What `parse` makes of a file of a saved run."""
    try:
        return parse(path.read_bytes())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, safetensors.SafetensorError) as fault:
        raise Error(f"{path}: missing, damaged or of another installation: {fault!r}", exit_code=4) from fault


def write_params(path: Path, params: Params) -> None:
    """One safetensors file with a hash; a leaf's name is its path in the nested dict, `outer/inner`."""
    arrays = {_name(keys): np.ascontiguousarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    write(path, safetensors.numpy.save(arrays, {"sha256": _sha256(arrays)}))


def read_params(path: Path, like: Params) -> Params:
    """The parameters in a file, in the structure of `like`."""

    def parse(data):
        arrays = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        if header["__metadata__"]["sha256"] != _sha256(arrays):
            raise ValueError("its hash is not that of its arrays")
        shapes = {name: array.shape for name, array in arrays.items()}
        expected = {_name(keys): leaf.shape for keys, leaf in jax.tree_util.tree_leaves_with_path(like)}
        if shapes != expected:
            raise ValueError(f"it has the arrays {shapes}, but the model has {expected}")
        return jax.tree_util.tree_map_with_path(lambda keys, _: jax.numpy.asarray(arrays[_name(keys)]), like)

    return read(path, parse)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Adds one line of JSON; what is not finite is null."""
    plain = {key: value if math.isfinite(value) else None for key, value in row.items()}
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def parse_rows(data: bytes) -> list[dict[str, Any]]:
    """The rows that `append_row` wrote."""
    rows = [json.loads(line) for line in data.decode("utf-8").splitlines()]
    return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]


def environment(experiment: Plugin, corpus_sha256: str, devices: int) -> dict[str, Any]:
    """What a run depends on beside its recipe: versions, plugin files, devices, precision, commit, corpus."""
    packages = ("seqjax", "jax", "jaxlib", "numpy", "optax")
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "device": str(jax.devices()[0].device_kind),
        "backend": jax.default_backend(),
        "devices": devices,
        "enable_x64": jax.config.jax_enable_x64,
        "git_commit": _git_commit(),
        "corpus_sha256": corpus_sha256,
        "plugins": [_plugin_record(entry) for entry in _entries(experiment)],
    }


def copy_local_plugins(folder: Path, experiment: Plugin) -> None:
    """Keeps the files of plugins that belong to no distribution."""
    for entry in _entries(experiment):
        if entry.distribution == registry.LOCAL and entry.source:
            with disk_errors(folder):
                kept = _kept_plugin(folder, _plugin_record(entry))
                kept.parent.mkdir(exist_ok=True)
                shutil.copyfile(entry.source, kept)


def missing_plugins(folder: Path) -> list[str]:
    """The files to load, quoted for a shell, before a run that used local plugins can be opened."""
    records = read(folder / ENVIRONMENT, lambda data: [dict(record) for record in json.loads(data)["plugins"]])
    known = {(kind, entry.id): entry for kind in registry.GROUPS for entry in registry.entries(kind)}
    files = []
    for record in records:
        kind, id_, file, sha256 = (record.get(key) for key in ("kind", "id", "file", "sha256"))
        entry = known.get((kind, id_))
        if not str(id_).startswith(f"{registry.LOCAL}/"):
            continue
        if entry and sha256 not in (None, _plugin_record(entry)["sha256"]):
            raise Error(f"{folder} was made with another {kind} {id_!r} than is loaded", exit_code=4)
        if not entry and not file:
            raise Error(f"{folder} needs {kind} {id_!r}, which was defined without a file: define it again, then open")
        if not entry:
            kept = read(folder / ENVIRONMENT, lambda _: _kept_plugin(folder, record))  # noqa: B023
            files.append(shlex.quote(str(kept)))
    return list(dict.fromkeys(files))


def _kept_plugin(folder: Path, record: dict[str, Any]) -> Path:
    """Where a run keeps the file of a local plugin; two files may have one name."""
    name = f"{record['sha256'][:8]}_{record['file']}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"not a plain file name: {name!r}")
    return folder / PLUGINS / name


def _entries(plugin: Plugin) -> list[registry.Entry]:
    """The entries of the plugins in a plugin's fields, and of those in theirs."""
    inner = [value for value in vars(plugin).values() if isinstance(value, Plugin)]
    return [entry for value in inner for entry in (registry.entry_of(value), *_entries(value))]


def _plugin_record(entry: registry.Entry) -> dict[str, Any]:
    file = Path(entry.source) if entry.source and Path(entry.source).is_file() else None
    return {
        "kind": entry.kind,
        "id": entry.id,
        "version": entry.version,
        "target": entry.target,
        "file": re.sub("[^A-Za-z0-9._-]", "_", file.name)[-90:] if file else None,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file else None,
    }


def _git_commit() -> str | None:
    """The commit of the working folder, `None` outside a git checkout or without git."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done and done.returncode == 0 else None


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    """A hash of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _name(keys: tuple) -> str:
    return "/".join(str(key.key) for key in keys)

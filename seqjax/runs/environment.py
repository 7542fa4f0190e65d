"""Records what a run depends on besides its config: versions, devices and plugins."""

import hashlib
import importlib.metadata
import inspect
import json
import linecache
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import Any

import jax

from seqjax.data.dataset import Data
from seqjax.errors import Error
from seqjax.files import PLAIN_NAME, write
from seqjax.plugin import registry
from seqjax.plugin.base import Plugin
from seqjax.runs.folder import ENVIRONMENT, PLUGINS, read

OPTIONS = ("enable_x64", "default_matmul_precision", "default_prng_impl", "threefry_partitionable")
"""The options of JAX that change the bits of a result."""
MACHINE = ("backend", "device", "devices", "processes")
"""The entries about the machine, which change at most the last bits of a result."""


def environment(
    experiment: Plugin, data_sha256: dict[str, str], devices: int, params_sha256: str | None
) -> dict[str, Any]:
    """The record of a run: versions, plugin files, devices, precision, commit, hashes of data and given parameters."""
    packages = ("seqjax", "jax", "jaxlib", "numpy", "optax", "flax", "tokenizers")
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "device": str(jax.local_devices()[0].device_kind),
        "backend": jax.default_backend(),
        "devices": devices,
        "processes": jax.process_count(),
        **{name: getattr(jax.config, f"jax_{name}") for name in OPTIONS},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "git_commit": _git_commit(),
        "data_sha256": data_sha256,
        "initial_params_sha256": params_sha256,
        "plugins": [_plugin_record(entry) for entry in _entries(experiment)],
    }


def changes(kept: dict[str, Any], now: dict[str, Any], but: Container[str] = ()) -> list[str]:
    """The differences between two records that may change the bits of a result, one line each.

    Args:
        kept: a record of `environment`.
        now: another one.
        but: names of entries that are left out.
    """
    records = [{"processes": 1} | record for record in (kept, now)]  # older records have no such entry
    flat = [
        {name: record[name] for name in (*MACHINE, "xla_flags", "initial_params_sha256", *OPTIONS)}
        | record["versions"]
        | {
            f"{plugin['kind']} {plugin['id']}": f"{plugin['version']} {plugin['sha256']}"
            for plugin in record["plugins"]
        }
        for record in records
    ]
    names = {**flat[0], **flat[1]}
    return [
        f"{name}: then {flat[0].get(name)}, now {flat[1].get(name)}"
        for name in names
        if flat[0].get(name) != flat[1].get(name) and name not in but
    ]


def copy_local_plugins(folder: Path, experiment: Plugin) -> None:
    """Copies the files of plugins that belong to no distribution into the folder of a run."""
    for entry in _entries(experiment):
        record = _plugin_record(entry)
        if entry.distribution == registry.LOCAL and entry.source and record["file"]:
            kept = _kept_plugin(folder, record)
            kept.parent.mkdir(exist_ok=True)
            write(kept, Path(entry.source).read_bytes())


def local_files(*plugins: Plugin | None) -> list[str]:
    """The files that define plugins, and those in their fields, that belong to no distribution.

    Raises:
        Error: such a plugin was defined without a file, as in a notebook.
    """
    files = []
    for plugin in filter(None, plugins):
        own = [] if plugin.kind == "experiment" else [registry.entry_of(plugin)]
        for entry in [*own, *_entries(plugin)]:
            if entry.distribution != registry.LOCAL:
                continue
            if not entry.source or not Path(entry.source).is_file():
                raise Error(f"{entry.kind} {entry.name!r} was defined without a file, which another process could load")
            files.append(entry.source)
    return list(dict.fromkeys(files))


def missing_plugins(folder: Path) -> list[str]:
    """The plugin files to load, quoted for a shell, before the run in a folder can be opened."""
    records = read(folder / ENVIRONMENT, lambda data: [dict(record) for record in json.loads(data)["plugins"]])
    known = {(kind, entry.id): entry for kind in registry.GROUPS for entry in registry.entries(kind)}
    files = []
    for record in records:
        kind, id_, file, sha256 = (record.get(key) for key in ("kind", "id", "file", "sha256"))
        entry = known.get((kind, id_))
        if not str(id_).startswith(f"{registry.LOCAL}/"):
            continue
        if entry and sha256 not in (None, _plugin_record(entry)["sha256"]):
            raise Error(f"{folder} was made with another {kind} {id_!r} than the loaded one", exit_code=4)
        if not entry and not file:
            raise Error(f"{folder} needs {kind} {id_!r}, which was defined without a file: define it again first")
        if not entry:
            kept = read(folder / ENVIRONMENT, lambda _: _kept_plugin(folder, record))  # noqa: B023
            files.append(shlex.quote(str(kept)))
    return list(dict.fromkeys(files))


def _kept_plugin(folder: Path, record: dict[str, Any]) -> Path:
    """The run's copy of the file of a local plugin; the hash distinguishes files of one name."""
    name = f"{record['sha256'][:8]}_{record['file']}"
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError(f"not a plain file name: {name!r}")
    return folder / PLUGINS / name


def _entries(plugin: Plugin) -> list[registry.Entry]:
    """The entries of the plugins in a plugin's fields, and in the fields of those plugins."""
    inner = [value for value in vars(plugin).values() if isinstance(value, Plugin) and not isinstance(value, Data)]
    return [entry for value in inner for entry in (registry.entry_of(value), *_entries(value))]


def _plugin_record(entry: registry.Entry) -> dict[str, Any]:
    file = Path(entry.source) if entry.source and Path(entry.source).is_file() else None
    source = file.read_bytes() if file else _source_of(registry.load(entry))
    return {
        "kind": entry.kind,
        "id": entry.id,
        "version": entry.version,
        "target": entry.target,
        "file": re.sub("[^A-Za-z0-9._-]", "_", file.name)[-90:] if file else None,
        "sha256": None if source is None else hashlib.sha256(source).hexdigest(),
    }


def _source_of(cls: type) -> bytes | None:
    """The source of the notebook cell in which a class was defined; None if Python keeps none, as at its prompt."""
    for value in vars(cls).values():
        if inspect.isfunction(value) and (lines := linecache.getlines(value.__code__.co_filename)):
            return "".join(lines).encode()
    return None


def _git_commit() -> str | None:
    """The commit of the working folder; None outside a git checkout or without git."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done and done.returncode == 0 else None

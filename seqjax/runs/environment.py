"""Records what a run depends on besides its config: versions, devices and plugins."""

import hashlib
import importlib.metadata
import inspect
import linecache
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import jax
from annotated_types import Interval
from pydantic import TypeAdapter

from seqjax.data.dataset import Data
from seqjax.errors import Error
from seqjax.files import PLAIN_NAME
from seqjax.plugin import registry
from seqjax.plugin.base import Plugin
from seqjax.plugin.config import is_object
from seqjax.runs.files.folder import ENVIRONMENT, PLUGINS, inner_folder, read_json, reading
from seqjax.runs.fingerprint import Fingerprint
from seqjax.terminal.shell import argument
from seqjax.training.fit import Fit

OPTIONS = ("enable_x64", "default_matmul_precision", "default_prng_impl", "threefry_partitionable")
"""The options of JAX that change the bits of a result."""
MACHINE = ("backend", "device", "devices", "processes")
"""The entries about the machine, which change at most the last bits of a result."""


Record = dict[str, Any]
"""What a run depends on besides its config; `_Form` has its entries."""


def environment(
    experiment: Plugin,
    data_sha256: dict[str, str],
    fit: Fit,
    params_sha256: str | None,
    objects: dict[str, Fingerprint],
) -> Record:
    """The record of a run: versions, plugin files, objects, devices, precision, commit, hashes of data and parameters.

    Args:
        experiment: the experiment.
        data_sha256: the hashes of its data by field.
        fit: how it is fitted, with the devices and the precision.
        params_sha256: the hash of initial parameters that were given; None: there are none.
        objects: the fingerprints of the objects of Python in the experiment, by field.
    """
    return {
        **installation(),
        "devices": fit.num_devices,
        "precision": fit.precision,
        "processes": jax.process_count(),
        "git_commit": _git_commit(),
        "data_sha256": data_sha256,
        "initial_params_sha256": params_sha256,
        "objects": objects,
        "plugins": [plugin_record(entry) for entry in _entries(experiment)],
    }


def installation() -> dict[str, Any]:
    """The part of a record that is the same for all runs: versions, machine, options of JAX."""
    packages = ("seqjax", "jax", "jaxlib", "numpy", "optax", "flax", "tokenizers")
    return {
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "device": str(jax.local_devices()[0].device_kind),
        "backend": jax.default_backend(),
        **{name: getattr(jax.config, f"jax_{name}") for name in OPTIONS},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


class _Plugin(TypedDict):
    """The record of a plugin; see `plugin_record`."""

    kind: str
    id: str
    version: str
    target: str
    file: str | None
    sha256: str | None


class _Form(TypedDict):
    """The record of a run; see `environment`. Counts are below 2^31."""

    python: str
    versions: dict[str, str]
    platform: str
    device: str
    backend: str
    enable_x64: bool
    default_matmul_precision: str | None
    default_prng_impl: str
    threefry_partitionable: bool
    xla_flags: str
    devices: Annotated[int, Interval(ge=1, lt=2**31)]
    precision: Literal["float32", "bfloat16"]
    processes: Annotated[int, Interval(ge=1, lt=2**31)]
    git_commit: str | None
    data_sha256: dict[str, str]
    initial_params_sha256: str | None
    objects: dict[str, Fingerprint]
    plugins: list[_Plugin]


_RECORD = TypeAdapter(_Form)


def read_environment(folder: Path) -> Record:
    """The record of the run in a folder.

    Raises:
        Error: exit code 4: it is missing, or is not a record of `environment`.
    """
    record: Any = read_json(folder / ENVIRONMENT, _RECORD)
    return dict(record)


def changes(kept: Record, now: Record, but: Container[str] = ()) -> list[str]:
    """The differences between two records that may change the bits of a result, one line each.

    Args:
        kept: a record of `environment`.
        now: another one.
        but: names of entries that are left out.
    """
    flat = [
        {name: record[name] for name in (*MACHINE, "precision", "xla_flags", "initial_params_sha256", *OPTIONS)}
        | record["versions"]
        | {
            f"{plugin['kind']} {plugin['id']}": f"{plugin['version']} {plugin['sha256']}"
            for plugin in record["plugins"]
        }
        | {field: one["program"][:12] for field, one in record["objects"].items()}
        for record in (kept, now)
    ]
    names = {**flat[0], **flat[1]}
    return [
        f"{name}: then {flat[0].get(name)}, now {flat[1].get(name)}"
        for name in names
        if flat[0].get(name) != flat[1].get(name) and name not in but
    ]


def local_plugins(experiment: Plugin) -> dict[str, bytes]:
    """The files of plugins that belong to no distribution, by the name of the copy that a run keeps."""
    copies = {}
    for entry in _entries(experiment):
        record = plugin_record(entry)
        if entry.distribution == registry.LOCAL and entry.source and record["file"]:
            copies[copy_name(record)] = Path(entry.source).read_bytes()
    return copies


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
    records = read_environment(folder)["plugins"]
    known = {(kind, entry.id): entry for kind in registry.GROUPS for entry in registry.entries(kind)}
    files = []
    for record in records:
        kind, id_, file, sha256 = (record.get(key) for key in ("kind", "id", "file", "sha256"))
        entry = known.get((kind, id_))
        if not str(id_).startswith(f"{registry.LOCAL}/"):
            continue
        if entry and sha256 not in (None, plugin_record(entry)["sha256"]):
            raise Error(f"{folder} was made with another {kind} {id_!r} than the loaded one", exit_code=4)
        if not entry and not file:
            raise Error(f"{folder} needs {kind} {id_!r}, which was defined without a file: define it again first")
        if not entry:
            with reading(folder / ENVIRONMENT):
                files.append(argument(kept_plugin(folder, record)))
    return list(dict.fromkeys(files))


def kept_plugin(folder: Path, record: dict[str, Any]) -> Path:
    """The run's copy of the file of a local plugin."""
    return inner_folder(folder, PLUGINS) / copy_name(record).removeprefix(f"{PLUGINS}/")


def copy_name(record: dict[str, Any]) -> str:
    """The name of the copy of the file of a local plugin; the hash distinguishes files of one name."""
    name = f"{record['sha256'][:8]}_{record['file']}"
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError(f"not a plain file name: {name!r}")
    return f"{PLUGINS}/{name}"


def _entries(plugin: Plugin) -> list[registry.Entry]:
    """The entries of the plugins in a plugin's fields, and in the fields of those plugins."""
    inner = [
        value
        for value in vars(plugin).values()
        if isinstance(value, Plugin) and not isinstance(value, Data) and not is_object(value)
    ]
    return [entry for value in inner for entry in (registry.entry_of(value), *_entries(value))]


def plugin_record(entry: registry.Entry) -> dict[str, Any]:
    """The record of a plugin: where it comes from, its version, and the sha256 of its file."""
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

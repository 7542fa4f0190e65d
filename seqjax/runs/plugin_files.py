"""The files that define the plugins of a run: their hashes, and the copies of local ones that a run keeps."""

import hashlib
import inspect
import linecache
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

from seqjax.array_files.saved_file import reading
from seqjax.data.dataset import Data
from seqjax.errors import Error
from seqjax.files import PLAIN_NAME
from seqjax.plugin import registry
from seqjax.plugin.base import Plugin
from seqjax.plugin.config import is_object
from seqjax.runs.files.folder import ENVIRONMENT, PLUGINS, inner_folder
from seqjax.terminal.shell import argument


class PluginRecord(TypedDict):
    """What is recorded of a plugin: where it comes from, its version, and the sha256 of its file."""

    kind: str
    id: str
    version: str
    target: str
    file: str | None
    sha256: str | None


def plugin_records(plugin: Plugin) -> list[PluginRecord]:
    """The records of the plugins in a plugin's fields, and in the fields of those plugins."""
    return [plugin_record(entry) for entry in _entries([plugin])]


def plugin_record(entry: registry.Entry) -> PluginRecord:
    """The record of a plugin."""
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


def local_plugins(plugin: Plugin) -> dict[str, bytes]:
    """The files of plugins that belong to no distribution, by the name of the copy that a run keeps."""
    copies = {}
    for entry in _entries([plugin]):
        record = plugin_record(entry)
        if entry.distribution == registry.LOCAL and entry.source and record["file"]:
            copies[f"{PLUGINS}/{_copy_name(record)}"] = Path(entry.source).read_bytes()
    return copies


def local_files(*plugins: Plugin | None) -> list[str]:
    """The files that define plugins, and those in their fields, that belong to no distribution.

    Raises:
        Error: such a plugin was defined without a file, as in a notebook.
    """
    files = []
    for entry in _entries(plugins):
        if entry.distribution == registry.LOCAL:
            if not entry.source or not Path(entry.source).is_file():
                raise Error(f"{entry.kind} {entry.name!r} was defined without a file, which another process could load")
            files.append(entry.source)
    return list(dict.fromkeys(files))


def check_loaded(path: Path, records: Iterable[PluginRecord]) -> None:
    """Checks that the local plugins of the run in a folder are loaded.

    Args:
        path: the folder.
        records: those of its plugins.

    Raises:
        Error: a plugin is not loaded, or was defined without a file; exit code 4: another one is loaded.
    """
    known = {(kind, entry.id): entry for kind in registry.GROUPS for entry in registry.entries(kind)}
    files = []
    for record in filter(is_local, records):
        entry, words = known.get((record["kind"], record["id"])), f"{record['kind']} {record['id']!r}"
        if entry and record["sha256"] not in (None, plugin_record(entry)["sha256"]):
            raise Error(f"{path} was made with another {words} than the loaded one", exit_code=4)
        if not entry and not record["file"]:
            raise Error(f"{path} needs {words}, which was defined without a file: define it again first")
        if not entry:
            with reading(path / ENVIRONMENT):
                files.append(argument(kept_plugin(path, record)))
    if files:
        loads = " ".join(f"--load {file}" for file in dict.fromkeys(files))
        raise Error(
            f"{path} needs local plugins that are not loaded; it keeps copies of their files\n"
            f"Loading a file runs it, so read them first, and then add: {loads}"
        )


def is_local(record: PluginRecord) -> bool:
    """Whether a plugin belongs to no distribution."""
    return record["id"].startswith(f"{registry.LOCAL}/")


def kept_plugin(path: Path, record: PluginRecord) -> Path:
    """The copy of the file of a local plugin in the folder of a run."""
    return inner_folder(path, PLUGINS) / _copy_name(record)


def _copy_name(record: PluginRecord) -> str:
    """The name of the copy of the file of a local plugin; the hash distinguishes files of one name."""
    name = f"{(record['sha256'] or '')[:8]}_{record['file']}"
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError(f"not a plain file name: {name!r}")
    return name


def _entries(values: Iterable[Any]) -> list[registry.Entry]:
    """The entries of those of some values that are plugins, and of the plugins in their fields."""
    entries = []
    for value in values:
        if isinstance(value, Plugin) and not isinstance(value, Data) and not is_object(value):
            own = [] if value.kind == "experiment" else [registry.entry_of(value)]
            entries += [*own, *_entries(vars(value).values())]
    return entries


def _source_of(cls: type) -> bytes | None:
    """The source of the notebook cell in which a class was defined; None if Python keeps none, as at its prompt."""
    for value in vars(cls).values():
        if inspect.isfunction(value) and (lines := linecache.getlines(value.__code__.co_filename)):
            return "".join(lines).encode()
    return None

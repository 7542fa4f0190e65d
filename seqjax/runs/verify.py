"""`verify`: checks all that a run consists of and depends on, and reports every fault."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from seqjax.array_files import saved_file
from seqjax.data.preparing import load
from seqjax.errors import Error, counted
from seqjax.plugin import config, registry
from seqjax.runs.environment import OPTIONS, Environment, installation, read_environment
from seqjax.runs.files import folder
from seqjax.runs.files.data import read_data
from seqjax.runs.files.manifest import Fault, Manifest, compare_files
from seqjax.runs.plugin_files import PluginRecord, is_local, plugin_record
from seqjax.runs.saved import read_saved

OK, CHANGED, MISSING, DIFFERS, UNKNOWN = "ok", "changed", "missing", "differs", "not checked"
"""The states of what is checked. `differs` is reported, but is no fault, for example another version of a package."""
UNREADABLE = "unreadable"
"""The state of a file that this user may not read."""
DAMAGED = (CHANGED, MISSING)
"""The states that count as damage."""


class FileLine(NamedTuple):
    """One line of the result.

    Args:
        what: what was checked, such as "metrics.jsonl".
        state: one of the states above.
        note: how large it is, or what is wrong with it.
    """

    what: str
    state: str
    note: str = ""


def verify(path: Path, hashes: dict[str, str] | None = None) -> list[FileLine]:
    """Checks files, plugins, dataset and versions of the run in a folder. Writes nothing.

    Args:
        path: the folder.
        hashes: the sha256 of datasets that were loaded for other runs, by their tables in the config; it is updated.
    """
    try:
        manifest, faults, _ = compare_files(path)
    except Error as fault:
        return [_line_of(folder.MANIFEST, fault), _unchecked(folder.MANIFEST)]
    lines = _files(path, manifest, faults)
    if folder.ENVIRONMENT in faults:
        return [*lines, _unchecked(folder.ENVIRONMENT)]
    try:
        environment = read_environment(path)
    except Error as fault:
        return [*lines, _line_of(folder.ENVIRONMENT, fault), _unchecked(folder.ENVIRONMENT)]
    if not faults:
        lines += _guarded("training", lambda: _training(path))
    lines += _guarded("plugins", lambda: _plugins(environment))
    lines += _objects(environment)
    lines += _guarded("dataset", lambda: _data(path, environment, {} if hashes is None else hashes))
    return lines + _versions(environment)


def _unchecked(name: str) -> FileLine:
    """The line of the checks that cannot be made because a file cannot be read."""
    return FileLine("all other checks", UNKNOWN, f"{name} cannot be read")


def _guarded(what: str, check: Callable[[], list[FileLine]]) -> list[FileLine]:
    """The lines of a check; if it cannot be made because a file is damaged, a line that says so."""
    try:
        with saved_file.reading(Path(what)):
            return check()
    except Error as fault:
        return [_line_of(what, fault)]


def _line_of(what: str, fault: Error) -> FileLine:
    """The line of something that could not be checked because of an error."""
    is_missing = isinstance(fault.__cause__, FileNotFoundError)
    state = UNREADABLE if fault.exit_code == 6 else MISSING if is_missing else CHANGED
    return FileLine(what, state, _first_line(fault))


def _first_line(fault: Error) -> str:
    return fault.message.partition("\n")[0]


def _files(path: Path, manifest: Manifest, faults: Mapping[str, Fault]) -> list[FileLine]:
    """The lines of the files that the manifest lists."""
    good = [name for name in manifest.files if name not in faults and (path / name).exists()]
    lines = [FileLine("files", OK, f"{counted(len(good), 'file')} as in {folder.MANIFEST}")]
    for name, fault in faults.items():
        damage = CHANGED if (path / name).exists() else MISSING
        lines.append(FileLine(name, UNREADABLE if fault.exit_code == 6 else damage, fault.words))
    return lines


def _training(path: Path) -> list[FileLine]:
    """The lines of the saved state of training."""
    kept = read_saved(path)
    lines = [FileLine("metrics", OK, counted(len(kept.rows), "epoch"))]
    if not kept.params:
        return [*lines, FileLine("checkpoints", UNKNOWN, "there is none, so that training would begin anew")]
    size = sum(array.size for array in kept.params.values())
    return [*lines, FileLine("parameters", OK, f"{len(kept.params)} leaves, {size:,} numbers")]


def _plugins(environment: Environment) -> list[FileLine]:
    """The files of the plugins that are installed or loaded here. The manifest has the copies of local ones."""
    known = {(kind, entry.id): entry for kind in registry.GROUPS for entry in registry.entries(kind)}
    lines = [_plugin(kept, known.get((kept["kind"], kept["id"]))) for kept in environment.plugins]
    good = [line.what.partition(" ")[2] for line in lines if line.state == OK]
    return [
        *([FileLine("plugins", OK, ", ".join(good))] if good else []),
        *(each for each in lines if each.state != OK),
    ]


def _plugin(kept: PluginRecord, entry: registry.Entry | None) -> FileLine:
    """The line of a plugin that is installed or loaded here."""
    what = f"{kept['kind']} {kept['id']}"
    if entry is None and is_local(kept):
        return FileLine(what, UNKNOWN, "it is local, and is not loaded here")
    if entry is None:
        return FileLine(what, MISSING, "it is not installed")
    now = plugin_record(entry)
    if now["sha256"] != kept["sha256"]:
        where = entry.source or "its source"
        return FileLine(
            what, CHANGED, f"{where} is not the file of the run; then {kept['version']}, now {now['version']}"
        )
    if now["version"] != kept["version"]:
        return FileLine(what, DIFFERS, f"the same file; then version {kept['version']}, now {now['version']}")
    return FileLine(what, OK)


def _objects(environment: Environment) -> list[FileLine]:
    """The line of what was given in Python, of which there is only a fingerprint."""
    words = "given in Python; compared when the script is run again"
    return [FileLine(", ".join(environment.objects), UNKNOWN, words)] if environment.objects else []


def _data(path: Path, environment: Environment, hashes: dict[str, str]) -> list[FileLine]:
    """The data, which are loaded again."""
    kept = saved_file.read(path / folder.CONFIG, config.decode_toml)
    return [_dataset(path, field, kept[field], sha256, hashes) for field, sha256 in environment.data_sha256.items()]


def _dataset(path: Path, field: str, table: Any, sha256: str, hashes: dict[str, str]) -> FileLine:
    """The line of the data of one field of the experiment."""
    if table["plugin"] == config.IN_MEMORY:
        read_data(path, field, sha256)
        return FileLine(field, OK, f"in {folder.DATA[field]}")
    key = json.dumps(table, sort_keys=True)
    try:
        if key not in hashes:
            hashes[key] = load(config.from_table("dataset", table)).sha256
    except Error as fault:
        is_local = str(table["plugin"]).startswith(f"{registry.LOCAL}/")
        return FileLine(field, UNKNOWN if is_local else MISSING, _first_line(fault))
    if hashes[key] != sha256:
        return FileLine(field, CHANGED, f"its sha256 was {sha256}, and is {hashes[key]}")
    return FileLine(field, OK, f"{table['plugin']}, sha256 {sha256}")


def _versions(environment: Environment) -> list[FileLine]:
    """The versions, the options of JAX and the devices."""
    now = installation()
    pairs = {
        name: (getattr(environment, name), now[name]) for name in ("python", "backend", "device", "xla_flags", *OPTIONS)
    }
    pairs |= {name: (version, now["versions"].get(name)) for name, version in environment.versions.items()}
    lines = [
        FileLine(name, DIFFERS, f"then {then}, now {here}") for name, (then, here) in pairs.items() if then != here
    ]
    if environment.devices > jax.device_count():
        lines.append(FileLine("devices", DIFFERS, f"then {environment.devices}, now {jax.device_count()}"))
    return lines or [FileLine("versions", OK, f"seqjax {now['versions']['seqjax']}, jax {now['versions']['jax']}")]

"""`verify`: checks all that a run consists of and depends on, and reports every fault."""

import contextlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from seqjax.data.preparing import load
from seqjax.errors import Error, counted
from seqjax.plugin import config, registry
from seqjax.runs import checkpoint, folder
from seqjax.runs.binding import check_binding
from seqjax.runs.environment import OPTIONS, installation, kept_plugin, plugin_record, read_environment
from seqjax.runs.index import INDEX, read_index, run_folders
from seqjax.runs.manifest import AFTER_TRAINING, Manifest, compare_files, file_sha256, read_manifest
from seqjax.runs.params_file import read_arrays
from seqjax.runs.rows import read_rows

OK, CHANGED, MISSING, DIFFERS, UNKNOWN = "ok", "changed", "missing", "differs", "not checked"
"""The states of what is checked. What differs is told, and is no damage, such as another version of a package."""
UNREADABLE = "unreadable"
"""The state of a file that this user may not read."""
DAMAGED = (CHANGED, MISSING)
"""The states of what is no longer as the run was made with or has left it."""


class Line(NamedTuple):
    """One line of the result.

    Args:
        what: what was checked, such as "metrics.jsonl".
        state: one of the states above.
        note: how large it is, or what is wrong with it.
    """

    what: str
    state: str
    note: str = ""


def folders_to_verify(path: Path) -> tuple[list[Path], Error | None]:
    """The folders of the runs of a sweep that have begun; for the folder of a run, this one.

    Returns:
        The folders, and the error if the folder holds neither (exit code 2), or the index of the sweep is damaged (4);
        the folders are then those that hold runs.
    """
    try:
        if not (path / INDEX).is_file():
            # A run without its config is one whose config was lost.
            return ([path] if _is_begun(path) else run_folders(path)), None
        return [path / entry.folder for entry in read_index(path).values() if _is_begun(path / entry.folder)], None
    except Error as fault:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        return [each for each in inside if (each / folder.CONFIG).is_file()], fault


def verify(path: Path, hashes: dict[str, str] | None = None) -> list[Line]:
    """Checks the run in a folder. Writes nothing, and imports no plugin but that of the dataset.

    It checks the files against the manifest; the hashes inside of metrics, parameters and checkpoints; the plugins, the
    dataset, which is loaded again, and the versions against `environment.json`.

    Args:
        path: the folder.
        hashes: the sha256 of datasets that were loaded for other runs, by their tables in the config; it is updated.
    """
    lines, damaged = _files(path)
    if any(line.state == MISSING and line.what == folder.MANIFEST for line in lines):
        lines.append(Line("metrics, parameters", UNKNOWN, f"there is no {folder.MANIFEST}"))
    else:
        bound = [name for name in folder.BOUND if name in damaged]
        lines += _guarded("metrics", lambda: _metrics(path, bound))
        lines += _guarded("parameters", lambda: _params(path, bound))
        lines += _guarded("checkpoints", lambda: _checkpoints(path, bound))
    try:
        record = read_environment(path)
    except Error as fault:
        return [*lines, Line("plugins, dataset, versions", UNKNOWN, _first_line(fault))]
    lines += _guarded("plugins", lambda: _plugins(path, record))
    lines += _guarded("dataset", lambda: _data(path, record, {} if hashes is None else hashes))
    lines += _guarded("versions", lambda: _versions(record))
    return lines


def _is_begun(run: Path) -> bool:
    return any((run / name).exists() for name in (folder.CONFIG, folder.PARAMS, folder.CHECKPOINTS))


def _guarded(what: str, check: Callable[[], list[Line]]) -> list[Line]:
    """The lines of a check; if it cannot be made because a file is damaged, a line that says so."""
    try:
        return check()
    except Error as fault:
        return [_line_of(what, fault)]
    except PermissionError as fault:
        return [Line(what, UNREADABLE, f"{fault.filename} may not be read")]
    except folder.DAMAGED as fault:  # the content of a file is of another form
        return [Line(what, CHANGED, f"{type(fault).__name__}: {fault}")]


def _line_of(what: str, fault: Error) -> Line:
    """The line of something that could not be checked because of an error."""
    return Line(what, UNREADABLE if fault.exit_code == 6 else CHANGED, _first_line(fault))


def _first_line(fault: Error) -> str:
    return fault.message.partition("\n")[0]


def _files(path: Path) -> tuple[list[Line], list[str]]:
    """The lines of the manifest and of its files, and the names of the files that are damaged."""
    if not (path / folder.MANIFEST).exists():
        return [Line(folder.MANIFEST, MISSING, "it was lost, or an earlier seqjax has made this run")], []
    try:
        manifest, faults = compare_files(path)
    except Error as fault:
        return [_line_of(folder.MANIFEST, fault)], []
    intact = len(set(manifest.files) - set(faults))
    lines = [Line("files", OK, f"{counted(intact, 'file')} as in {folder.MANIFEST}")]
    for name, found in faults.items():
        damage = CHANGED if (path / name).exists() else MISSING
        lines.append(Line(name, UNREADABLE if found.exit_code == 6 else damage, found.words))
    return [*lines, *_unlisted(path, manifest)], list(faults)


def _unlisted(path: Path, manifest: Manifest) -> list[Line]:
    """Lines for the results of a run that has not ended, and for the files that were changed by hand."""
    new = [name for name in AFTER_TRAINING if name not in manifest.files and (path / name).exists()]
    lines = []
    if new and folder.PARAMS not in manifest.files:
        lines.append(Line(", ".join(new), UNKNOWN, f"{folder.MANIFEST} has them when training has ended"))
    if manifest.changed:
        lines.append(Line(", ".join(manifest.changed), DIFFERS, "changed by hand, and adopted"))
    return lines


def _metrics(path: Path, bound: list[str]) -> list[Line]:
    """The running hash of the rows."""
    if bound:
        return [Line("metrics", UNKNOWN, f"their hashes depend on {', '.join(bound)}")]
    with warnings.catch_warnings(record=True) as torn:
        warnings.simplefilter("always")
        rows = read_rows(path)
    note = "; the last line is incomplete, and is not used" if torn else ""
    with contextlib.suppress(Error):  # a damaged checkpoint, or that of another run, has a line of its own
        last = checkpoint.newest(path)
        if last and last.progress.epochs_done > len(rows):
            return [Line(folder.METRICS, CHANGED, f"{counted(len(rows), 'epoch')} of {last.progress.epochs_done}")]
    return [Line("metrics", OK, f"{counted(len(rows), 'epoch')}{note}")]


def _params(path: Path, bound: list[str]) -> list[Line]:
    """The hash of the parameters, and whether they belong to the run."""
    lines = []
    for file in (folder.PARAMS, folder.BEST):
        if not (path / file).is_file():
            continue
        try:
            arrays, header = read_arrays(path, file)
            if not bound:
                check_binding(path, header["binding"], file)
        except Error as fault:
            lines.append(Line(f"parameters in {file}", CHANGED, _first_line(fault)))
        else:
            size = sum(array.size for array in arrays.values())
            unbound = f", not compared with {', '.join(bound)}" if bound else ""
            lines.append(Line(f"parameters in {file}", OK, f"{len(arrays)} leaves, {size:,} numbers{unbound}"))
    return lines


def _checkpoints(path: Path, bound: list[str]) -> list[Line]:
    """The hashes of the checkpoints, and whether they belong to the run."""
    found = checkpoint.check_all(path, not bound)
    lines = [Line(name, CHANGED, fault.partition("\n")[0]) for name, fault in found.items() if fault]
    intact = len(found) - len(lines)
    if not found and not (path / folder.PARAMS).is_file():
        lines.append(Line("checkpoints", UNKNOWN, "there is none, so that training would begin anew"))
    return [*([Line("checkpoints", OK, counted(intact, "checkpoint"))] if intact else []), *lines]


def _plugins(path: Path, record: dict[str, Any]) -> list[Line]:
    """The files of the plugins: those that are installed or loaded here, and the copies of local ones."""
    known = {(kind, entry.id): entry for kind in registry.GROUPS for entry in registry.entries(kind)}
    adopted: list[str] = []
    with contextlib.suppress(Error):  # it has a line of its own
        adopted = read_manifest(path).changed
    lines = []
    for kept in record["plugins"]:
        entry = known.get((kept["kind"], kept["id"]))
        line = _copy(path, kept, adopted) if _has_copy(kept) else None
        if line is None or (entry and line.state == OK):
            line = _plugin(kept, entry)
        lines.append(line)
    good = [line.what.partition(" ")[2] for line in lines if line.state == OK]
    return [*([Line("plugins", OK, ", ".join(good))] if good else []), *(each for each in lines if each.state != OK)]


def _has_copy(kept: dict[str, Any]) -> bool:
    """Whether a run keeps a copy of the file of a plugin."""
    return bool(kept["file"]) and str(kept["id"]).startswith(f"{registry.LOCAL}/")


def _copy(path: Path, kept: dict[str, Any], adopted: Sequence[str]) -> Line:
    """The line of a run's copy of the file of a local plugin, unless it was changed by hand and adopted."""
    what, file = f"{kept['kind']} {kept['id']}", kept_plugin(path, kept)
    if not file.exists():
        return Line(what, MISSING, f"{file} is not there")
    if file_sha256(file) == kept["sha256"]:
        return Line(what, OK)
    state = DIFFERS if f"{folder.PLUGINS}/{file.name}" in adopted else CHANGED
    return Line(what, state, f"{file} is not the file of the run")


def _plugin(kept: dict[str, Any], entry: registry.Entry | None) -> Line:
    """The line of a plugin that is installed or loaded here."""
    what = f"{kept['kind']} {kept['id']}"
    if entry is None and not kept["file"]:
        return Line(what, UNKNOWN, "it was defined without a file, and is not defined here")
    if entry is None:
        return Line(what, MISSING, "it is not installed")
    now = plugin_record(entry)
    if now["sha256"] != kept["sha256"]:
        where = entry.source or "its source"
        return Line(what, CHANGED, f"{where} is not the file of the run; then {kept['version']}, now {now['version']}")
    if now["version"] != kept["version"]:
        return Line(what, DIFFERS, f"the same file; then version {kept['version']}, now {now['version']}")
    return Line(what, OK)


def _data(path: Path, record: dict[str, Any], hashes: dict[str, str]) -> list[Line]:
    """The data, which are loaded again."""
    kept = folder.read(path / folder.CONFIG, lambda data: config.from_toml(data.decode("utf-8")))
    return [_dataset(path, field, kept[field], sha256, hashes) for field, sha256 in record["data_sha256"].items()]


def _dataset(path: Path, field: str, table: Any, sha256: str, hashes: dict[str, str]) -> Line:
    """The line of the data of one field of the experiment."""
    if table["plugin"] == config.IN_MEMORY:
        folder.read_data(path, field, sha256)
        return Line(field, OK, f"in {folder.DATA[field]}")
    key = json.dumps(table, sort_keys=True)
    try:
        if key not in hashes:
            hashes[key] = load(config.from_table("dataset", table)).sha256
    except Error as fault:
        is_local = str(table["plugin"]).startswith(f"{registry.LOCAL}/")
        return Line(field, UNKNOWN if is_local else MISSING, _first_line(fault))
    if hashes[key] != sha256:
        return Line(field, CHANGED, f"its sha256 was {sha256}, and is {hashes[key]}")
    return Line(field, OK, f"{table['plugin']}, sha256 {sha256}")


def _versions(record: dict[str, Any]) -> list[Line]:
    """The versions, the options of JAX and the devices."""
    now = installation()
    pairs = {name: (record[name], now[name]) for name in ("python", "backend", "device", "xla_flags", *OPTIONS)}
    pairs |= {name: (version, now["versions"].get(name)) for name, version in record["versions"].items()}
    lines = [Line(name, DIFFERS, f"then {then}, now {here}") for name, (then, here) in pairs.items() if then != here]
    if record["devices"] > jax.device_count():
        lines.append(Line("devices", DIFFERS, f"then {record['devices']}, now {jax.device_count()}"))
    return lines or [Line("versions", OK, f"seqjax {now['versions']['seqjax']}, jax {now['versions']['jax']}")]

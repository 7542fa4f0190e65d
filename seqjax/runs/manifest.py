"""The manifest of a run: the sha256 of each of its files, so that a file that has changed is found before it is used.

It is written before the config, which marks the folder as a run, and again after the last of the results. In between,
each state that training leaves carries hashes of its own: a checkpoint in its name, parameters in their header, and
each row of the metrics in the row. A manifest protects from damage and from edits that were forgotten, and not from
somebody who can write to the folder and computes the hashes again.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.errors import Error
from seqjax.files import PART, PLAIN_NAME, write
from seqjax.parse import from_json
from seqjax.runs import folder
from seqjax.terminal.shell import argument

RESULTS = (folder.METRICS, folder.PARAMS, folder.BEST, folder.SAMPLES, folder.HISTORY, folder.DIVERGED)
"""The files that are added when training has ended, and removed when it goes on."""
AFTER_TRAINING = (folder.STOPPED, *RESULTS)
"""The files of a run that has ended which it did not have before training."""
_NAME = re.compile(rf"({folder.PLUGINS}/)?{PLAIN_NAME}")


class Manifest(NamedTuple):
    """What is known of the files of a run.

    Args:
        files: name of a file -> the hashes that it may have: two while it is being replaced.
        changed: the names of the files that were changed by hand, and adopted.
        bound: the hashes of `folder.binding` under which states were saved before files were changed by hand.
    """

    files: dict[str, list[str]]
    changed: list[str]
    bound: list[dict[str, str]]


class Fault(NamedTuple):
    """What is wrong with a file of a run.

    Args:
        words: such as "has changed".
        exit_code: that of the error: 4, or 6 for a file that may not be read.
    """

    words: str
    exit_code: int = 4


def read_manifest(path: Path) -> Manifest:
    """The manifest of the run in a folder.

    Raises:
        Error: exit code 4: there is none, or it is damaged.
    """
    if not (path / folder.MANIFEST).exists():
        raise Error(
            f"{path} has no {folder.MANIFEST}: it was lost, or an earlier seqjax has made this run\n"
            f"Look at its files; this then writes the manifest of what is there: seqjax adopt {argument(path)}",
            exit_code=4,
        )

    def parse(data):
        found = from_json(data)
        manifest = Manifest(
            {str(name): [str(sha256) for sha256 in hashes] for name, hashes in found["files"].items()},
            [str(name) for name in found["changed"]],
            [{name: str(bound[name]) for name in folder.BOUND} for bound in found["bound"]],
        )
        if data != _encode(manifest):
            raise ValueError("its hash is not that of its content")
        if folder.CONFIG not in manifest.files:
            raise ValueError(f"it does not have {folder.CONFIG}")
        for name in [*manifest.files, *manifest.changed]:
            if not _NAME.fullmatch(name):
                raise ValueError(f"not the name of a file of a run: {name!r}")
        return manifest

    found: Manifest = folder.read(path / folder.MANIFEST, parse)
    return found


def begin_manifest(path: Path, config: bytes) -> None:
    """Writes the manifest of a run that is about to begin: of all files that are there, and of its config."""
    files = first_hashes(path) | {folder.CONFIG: [hashlib.sha256(config).hexdigest()]}
    write_manifest(path, Manifest(files, [], []))


def first_hashes(path: Path) -> dict[str, list[str]]:
    """The hashes of the files that a run has before training and that training does not change, but for its config."""
    names = [folder.ENVIRONMENT, folder.CODEC, *folder.DATA.values()]
    plugins = folder.inner_folder(path, folder.PLUGINS)
    copies = [file.name for file in sorted(plugins.glob("*")) if file.is_file() and not file.name.endswith(PART)]
    return hashes(path, [*names, *(f"{folder.PLUGINS}/{name}" for name in copies if re.fullmatch(PLAIN_NAME, name))])


def add_files(path: Path, *names: str) -> None:
    """Adds files to the manifest of a run as they are now, or replaces their hashes. Missing files are left out."""
    manifest = read_manifest(path)
    write_manifest(path, manifest._replace(files=manifest.files | hashes(path, names)))


def remove_results(path: Path, config: bytes) -> None:
    """Removes the results from the manifest of a run that goes on, before they are replaced.

    Args:
        path: the folder of the run.
        config: the config that the run is about to have. Until it is added, the old one is right too.
    """
    manifest = read_manifest(path)
    files = {name: hashes for name, hashes in manifest.files.items() if name not in RESULTS}
    new = hashlib.sha256(config).hexdigest()
    files[folder.CONFIG] = list(dict.fromkeys([*files[folder.CONFIG], new]))
    write_manifest(path, manifest._replace(files=files))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest."""
    write(path / folder.MANIFEST, _encode(manifest))


def check_files(path: Path) -> Manifest:
    """Checks that each file in the manifest of a run is there, and is the one that the manifest was made of.

    Raises:
        Error: exit code 4; the message names all files that are missing or have changed.
    """
    manifest, faults = compare_files(path)
    if faults:
        raise Error(
            f"{path}: some files are missing, or have changed since they were written. None was touched\n"
            f"Restore them; or, if the change is meant, type: seqjax adopt {argument(path)}",
            problems=[f"{path / name} {fault.words}" for name, fault in faults.items()],
            exit_code=min(fault.exit_code for fault in faults.values()),  # damage counts more than a permission
        )
    return manifest


def compare_files(path: Path) -> tuple[Manifest, dict[str, Fault]]:
    """The manifest of a run, which may be in training, and the faults of its files by name.

    Raises:
        Error: exit code 4: there is no manifest, or it is damaged.
    """
    manifest = read_manifest(path)
    changed = changed_files(path, manifest)
    # A process that trains the run may have replaced files and then the manifest after it was read here.
    while changed and manifest != (manifest := read_manifest(path)):
        changed = changed_files(path, manifest)
    return manifest, changed


def check_config(file: Path) -> None:
    """Checks that a config in the folder of a run is the one that the run was made with.

    Raises:
        Error: exit code 4: it has changed, or the manifest is damaged.
    """
    manifest = read_manifest(file.parent)
    if file.name in manifest.files and file.name in changed_files(file.parent, manifest):
        raise Error(
            f"{file} has changed since the run beside it was made\n"
            "To begin another run with the changed config, copy it to another folder and restore this one; if the "
            f"change belongs to the run, type: seqjax adopt {argument(file.parent)}",
            exit_code=4,
        )


def changed_files(path: Path, manifest: Manifest) -> dict[str, Fault]:
    """The faults of the files of a run by name: of those in its manifest, and of results that it does not have."""
    found = {name: _fault(path / name, hashes) for name, hashes in manifest.files.items()}
    if folder.PARAMS in manifest.files:
        new = [name for name in AFTER_TRAINING if name not in manifest.files and (path / name).exists()]
        found |= dict.fromkeys(new, Fault(f"is not in {folder.MANIFEST}"))
    return {name: fault for name, fault in found.items() if fault}


def _fault(file: Path, hashes: list[str]) -> Fault | None:
    """What is wrong with a file that may have these hashes; None: nothing is."""
    if not file.exists():
        return Fault("is missing")
    try:
        return None if file_sha256(file) in hashes else Fault("has changed")
    except Error as fault:
        return Fault("may not be read" if fault.exit_code == 6 else "is not a plain file", fault.exit_code)


def file_sha256(file: Path) -> str:
    """The sha256 of a file of a run."""
    return str(folder.read(file, lambda data: hashlib.sha256(data).hexdigest()))


def hashes(path: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """The hashes of those files that are there."""
    return {name: [file_sha256(path / name)] for name in names if (path / name).exists()}


def _encode(manifest: Manifest) -> bytes:
    """The only bytes that a manifest can have: an entry is the hash of all others."""
    content: dict[str, Any] = manifest._asdict()
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return (json.dumps(content | {"sha256": sha256}, indent=1, sort_keys=True) + "\n").encode()

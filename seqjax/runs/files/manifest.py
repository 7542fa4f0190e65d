"""The manifest of a run: size and sha256 of its files, how far the run is, and which file is missing or has changed.

The manifest alone says what a run consists of. Every change of a run writes the manifest last. A kill before that
leaves the run as it was, since files that the manifest does not list are not part of the run. The manifest is written
after each checkpoint and after the results. In a new run, only the config follows it, which marks the folder as a run.
The rows of the metrics are appended between two manifests: a checkpoint has the number and the hash of the rows before
it, and rows after the last checkpoint are trained again.

A manifest finds damage and accidental edits. It does not protect against somebody who can write to the folder and
computes the hashes again.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from seqjax.array_files import saved_file
from seqjax.errors import Error
from seqjax.files import PLAIN_NAME, open_plain, write
from seqjax.runs.files import folder
from seqjax.runs.files.folder import CHECKPOINTS, CONFIG, MANIFEST, PLUGINS

_NAME = re.compile(rf"(({PLUGINS}|{CHECKPOINTS})/)?{PLAIN_NAME}")


class Content(NamedTuple):
    """What tells the content of a file from any other one.

    Args:
        size: in bytes. It is compared first, so that a file of another size is not read.
        sha256: the hash, in hexadecimal digits.
    """

    size: int
    sha256: str


class Manifest(NamedTuple):
    """The files of a run, and how far the run is.

    Args:
        files: name of a file -> its content.
        ended: how training has ended: "finished" or "diverged"; "" while it has not.
        note: the error message of a run that diverged.
        stopped_at: the epoch after which a callback ended training, if it did.
        next_config: while the config is being replaced, the content of the new one: the old and the new one are both
            accepted. Otherwise None.
    """

    files: dict[str, Content]
    ended: str = ""
    note: str = ""
    stopped_at: int | None = None
    next_config: Content | None = None

    @property
    def checkpoints(self) -> list[str]:
        """The names of the checkpoints, the newest first."""
        return sorted((name for name in self.files if name.startswith(f"{CHECKPOINTS}/")), reverse=True)


class _File(NamedTuple):
    """The content of the file of a manifest: the hash is that of the manifest."""

    manifest: Manifest
    sha256: str


_FORM = TypeAdapter(_File)


Wanted = Callable[[Manifest], Iterable[str]]
"""The names of the files of a manifest whose bytes are asked for."""


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
        Error: exit code 4: it is missing or damaged.
    """
    return saved_file.read(path / MANIFEST, decode_manifest)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of the bytes of its file."""
    manifest, _ = saved_file.from_json(_FORM, data)
    if data != encode_manifest(manifest):
        raise ValueError("its hash is not that of its content")
    strange = [name for name in manifest.files if not _NAME.fullmatch(name)]
    if strange or CONFIG not in manifest.files:
        raise ValueError(f"its names of files are not those of a run: {', '.join(strange)}")
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes the manifest of a run, unless this process has lost the lock of the folder."""
    folder.check_lock(path)
    write(path / MANIFEST, encode_manifest(manifest))


class Compared(NamedTuple):
    """The files of a run, compared with the manifest.

    Args:
        manifest: the manifest.
        faults: what is wrong with files, by name.
        data: the bytes of the files that were asked for, by name.
    """

    manifest: Manifest
    faults: dict[str, Fault]
    data: dict[str, bytes]


def check_files(path: Path, names: Collection[str] | None = None, wanted: Wanted | None = None) -> Compared:
    """Checks that the files of a run are there, and are those that the manifest lists.

    Args:
        path: the folder of the run, which may be in training.
        names: the names of the files; None: all that the manifest lists.
        wanted: as in `compare_files`.

    Raises:
        Error: exit code 4: files are missing or have changed; 6: they may not be read. The message names all of them.
    """
    compared = compare_files(path, wanted)
    faults = {name: fault for name, fault in compared.faults.items() if names is None or name in names}
    if faults:
        checkpoints = {*compared.manifest.checkpoints}
        if compared.manifest.ended and {*faults} <= checkpoints:
            advice = "Delete it and type the same command again: only more epochs would need it"
        elif {*faults} < checkpoints:
            advice = (
                "Delete it and type the same command again: training continues from the other checkpoint, and gives "
                "the same result"
            )
        else:
            advice = "Restore them, or train in another folder"
        raise Error(
            f"{path}: some files are missing, or have changed since they were written. None was touched\n{advice}",
            problems=[f"{path / name} {fault.words}" for name, fault in faults.items()],
            exit_code=min(fault.exit_code for fault in faults.values()),  # damage counts more than a permission
        )
    return compared


def compare_files(path: Path, wanted: Wanted | None = None) -> Compared:
    """Compares the files of a run, which may be in training, with its manifest. Each file is opened once.

    Args:
        path: the folder.
        wanted: the names of the files whose bytes are returned, for a manifest; None: none.

    Raises:
        Error: exit code 4: the manifest is missing or damaged.
    """
    compared, lacks = _compare(path, read_manifest(path), wanted)
    # A process that trains the run may have replaced files and then the manifest after it was read here.
    while (compared.faults or lacks) and compared.manifest != (now := read_manifest(path)):
        compared, lacks = _compare(path, now, wanted)
    return compared


def _compare(path: Path, manifest: Manifest, wanted: Wanted | None) -> tuple[Compared, bool]:
    """The files of a run, compared with a manifest, and whether a file that is wanted could not be read."""
    names = {*(wanted(manifest) if wanted else ())}
    found = {name: _examine(path / name, content, name in names) for name, content in manifest.files.items()}
    if isinstance(found[CONFIG], Fault) and manifest.next_config:
        found[CONFIG] = _examine(path / CONFIG, manifest.next_config, CONFIG in names)
    # Checkpoints may be deleted by hand: a damaged one if another one is there, and all of them after training.
    there = [name for name in manifest.checkpoints if (path / name).exists()]
    may_lack = {*manifest.checkpoints} - {*there} if there or manifest.ended else set()
    faults = {name: each for name, each in found.items() if isinstance(each, Fault) and name not in may_lack}
    data = {name: each for name, each in found.items() if isinstance(each, bytes) and name in names}
    return Compared(manifest, faults, data), not names <= data.keys()


def _examine(file: Path, content: Content, is_wanted: bool) -> Fault | bytes:
    """What is wrong with a file that has to have this content; else its bytes, which are empty unless it is wanted."""
    if not file.exists():
        return Fault("is missing")
    try:
        with saved_file.reading(file), open_plain(file, os.O_RDONLY) as opened:
            if os.fstat(opened.fileno()).st_size != content.size:
                return Fault("has changed")
            data = opened.read() if is_wanted else b""
            found = hashlib.sha256(data) if is_wanted else hashlib.file_digest(opened, "sha256")  # type: ignore[arg-type]
        return data if found.hexdigest() == content.sha256 else Fault("has changed")
    except Error as fault:
        return Fault("may not be read" if fault.exit_code == 6 else "is not a plain file", fault.exit_code)


def content_of(data: bytes) -> Content:
    """The content of bytes."""
    return Content(len(data), hashlib.sha256(data).hexdigest())


def encode_manifest(manifest: Manifest) -> bytes:
    """The only bytes that the file of a manifest can have."""
    content = manifest._asdict() | {"files": {name: each._asdict() for name, each in manifest.files.items()}}
    content["next_config"] = manifest.next_config and manifest.next_config._asdict()
    own = content_of(json.dumps(content, sort_keys=True).encode()).sha256
    return (json.dumps({"manifest": content, "sha256": own}, indent=1, sort_keys=True) + "\n").encode()

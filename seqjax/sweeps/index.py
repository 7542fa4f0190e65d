"""The index of a sweep: its runs, and their folders."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from seqjax.array_files import saved_file
from seqjax.errors import Error
from seqjax.files import PART, PLAIN_NAME, write
from seqjax.parse import from_json
from seqjax.runs.files import folder

FIGURE = "curves.png"
"""The figure in the folder of a sweep."""


class IndexEntry(NamedTuple):
    """A run in a sweep: its variant, which is its name without the seed, its seed, and its folder."""

    variant: str
    seed: int
    folder: str


class _File(NamedTuple):
    """The content of the file of an index: the hash is that of the runs."""

    runs: dict[str, IndexEntry]
    sha256: str


_FORM = TypeAdapter(_File)


def read_index(path: Path) -> dict[str, IndexEntry]:
    """The index of the sweep in a folder.

    Raises:
        Error: the file is damaged (exit code 4), or names a folder outside that of the sweep.
    """

    def parse(data):
        # pydantic reads no escape of a lone surrogate.
        runs, _ = saved_file.checked(_FORM, from_json(data))
        if data != _encode(runs):
            raise ValueError("its hash is not that of its content")
        return runs

    index = saved_file.read(path / folder.INDEX, parse)
    for entry in index.values():
        plain = re.fullmatch(PLAIN_NAME, entry.folder)
        if not plain or (path / entry.folder).resolve().parent != path.resolve():
            raise Error(f"{path / folder.INDEX}: not the name of a folder inside {path}: {entry.folder!r}")
    return index


def write_index(path: Path, index: Mapping[str, IndexEntry]) -> None:
    """Writes the index of the sweep in a folder."""
    write(path / folder.INDEX, _encode(index))


def _encode(index: Mapping[str, IndexEntry]) -> bytes:
    """The only bytes that an index can have: an entry is the hash of the others."""
    runs = {name: entry._asdict() for name, entry in index.items()}
    sha256 = hashlib.sha256(json.dumps(runs).encode()).hexdigest()
    text = json.dumps({"runs": runs, "sha256": sha256}, indent=2, ensure_ascii=False) + "\n"
    # A lone surrogate, which UTF-8 cannot encode, is written as an escape of JSON.
    return text.encode("utf-8", "backslashreplace")


def run_folders(path: Path) -> list[Path]:
    """The folders of the runs in the folder of a sweep; for any other folder, this one.

    Raises:
        Error: the folder holds neither a run nor a sweep; the index of the sweep is damaged, or the config of a run is
            missing (exit code 4).
    """
    if (path / folder.INDEX).is_file():
        runs = [path / entry.folder for entry in read_index(path).values()]
        return [run for run in runs if folder.is_run(run)]
    if not folder.is_run(path):
        raise Error(f"{path} holds no run and no sweep: it has neither {folder.CONFIG} nor {folder.INDEX}")
    return [path]


def folder_name(name: str) -> str:
    """The name of the folder of a run: the letters, digits and dots of a run's name, with dashes between them.

    If this loses more than separators, or is the name of another file, a hash is appended, so that different names have
    different folders.
    """
    slug = re.sub("[^A-Za-z0-9.]+", "-", name).strip("-.")[:90]
    if not name:
        return "all"
    is_taken = slug in (folder.INDEX, FIGURE) or slug.endswith(PART)
    if slug and _letters(slug) == _letters(name) and not is_taken:
        return slug
    return f"{slug}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".strip("-")


def _letters(name: str) -> str:
    """A name without its separators. A dash after a letter, digit or dot is a separator; otherwise it is a sign."""
    return re.sub("[ ,:=_]|(?<=[A-Za-z0-9.])-", "", name)


def folders_to_verify(path: Path) -> tuple[list[Path], Error | None]:
    """The folders of the runs of a sweep that have begun; for any other folder, this one.

    Returns:
        The folders, and the error if the folder holds neither a run nor a sweep (exit code 2), or the index of the
        sweep is damaged (4); the folders are then those inside that hold runs.
    """
    try:
        if (path / folder.INDEX).is_file():
            return [path / entry.folder for entry in read_index(path).values() if _is_begun(path / entry.folder)], None
        # Results without a config: the config was lost, and `verify` reports it.
        return ([path] if _is_begun(path) else run_folders(path)), None
    except Error as fault:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        return [each for each in inside if (each / folder.CONFIG).is_file()], fault


def _is_begun(run: Path) -> bool:
    return any((run / name).exists() for name in (folder.CONFIG, folder.PARAMS, folder.CHECKPOINTS))

"""The index of a sweep: its runs, and their folders."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from seqjax.errors import Error
from seqjax.files import PLAIN_NAME
from seqjax.runs import folder

INDEX = "sweep.json"
"""The file in the folder of a sweep that lists the folders of its runs."""


class IndexEntry(NamedTuple):
    """The variant of a run in a sweep, which is its name without the seed, and its folder."""

    variant: str
    folder: str


def read_index(path: Path) -> dict[str, IndexEntry]:
    """The index of the sweep in a folder.

    Raises:
        Error: the file is damaged (exit code 4), or names a folder outside that of the sweep.
    """
    index = folder.read(
        path / INDEX,
        lambda data: {
            name: IndexEntry(str(entry["variant"]), str(entry["folder"])) for name, entry in json.loads(data).items()
        },
    )
    for entry in index.values():
        plain = re.fullmatch(PLAIN_NAME, entry.folder)
        if not plain or (path / entry.folder).resolve().parent != path.resolve():
            raise Error(f"{path / INDEX}: not the name of a folder inside {path}: {entry.folder!r}")
    return index


def run_folders(path: Path) -> list[Path]:
    """The folders of the runs in the folder of a sweep; for any other folder, this one.

    Raises:
        Error: the folder holds neither a run nor a sweep; the index of the sweep is damaged (exit code 4).
    """
    if (path / INDEX).is_file():
        found = [path / entry.folder for entry in read_index(path).values()]
        return [run for run in found if (run / folder.CONFIG).is_file()]
    if not (path / folder.CONFIG).is_file():
        raise Error(f"{path} holds no run and no sweep: it has neither {folder.CONFIG} nor {INDEX}")
    return [path]

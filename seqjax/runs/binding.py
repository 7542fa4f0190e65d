"""Binds the saved states of a run to its config and codec, so that no state of another run is taken for its own."""

import hashlib
import re
from pathlib import Path
from typing import Any

from seqjax.errors import Error
from seqjax.runs.folder import BOUND, read
from seqjax.runs.manifest import read_manifest

_EPOCHS = re.compile(rb"^epochs = \d+\n", re.MULTILINE)
"""The line of a config that says for how many epochs a run is trained, the first one of this form."""


def binding(path: Path) -> dict[str, str]:
    """The sha256 of each file on which the parameters of a run depend; of the config without the number of epochs."""

    def sha256(data):
        return hashlib.sha256(_EPOCHS.sub(b"", data, count=1)).hexdigest()

    return {name: read(path / name, sha256) for name in BOUND}


def check_binding(path: Path, kept: Any, of: str) -> None:
    """Raises an `Error` with exit code 4 unless the files of a run are those with which a state was trained.

    Args:
        path: the folder of the run.
        kept: the hashes that are saved with the state.
        of: the name of the state, such as "params.safetensors".
    """
    now = binding(path)
    changed = [name for name in BOUND if not isinstance(kept, dict) or kept.get(name) != now[name]]
    if changed and kept not in read_manifest(path).bound:
        raise Error(
            f"{path}: {', '.join(changed)} changed since {of} was written, or {of} belongs to another run\n"
            "No file was touched. Restore the old files, or train in another folder",
            exit_code=4,
        )

"""The file of the state of a `Learner`: its arrays, what it was made for, and a hash of all its bytes."""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seqjax.array_files.arrays import forms_in, load_arrays, save_arrays
from seqjax.array_files.saved_file import READ_ERRORS
from seqjax.errors import Error, counted
from seqjax.files import disk_errors, open_plain
from seqjax.parse import from_json

PARTS = {"params": "problem", "carry": "problem", "opt_state": "optimizer", "memory": "strategy"}
"""Part of a state -> what of a learner decides its structure."""
_KIND = "state of a Learner"
"""What the header of a file says."""
_BLANK = "0" * 64
"""What is in the place of the hash while the hash is computed."""


class MadeFor(NamedTuple):
    """The learner for which a file was made.

    Args:
        gradient: its strategy, as a short text.
        rows: B.
        forms: name of each array of its state -> dtype and shape, such as `float32[3, 4]`.
    """

    gradient: str
    rows: int
    forms: dict[str, str]

    def unlike(self, own: "MadeFor") -> str | None:
        """What this learner has that another one, `own`, has not, in words; None: it is like the other one."""
        if self.gradient != own.gradient:
            return f"the strategy {self.gradient}, and this one has {own.gradient}"
        if self.rows != own.rows:
            return f"{counted(self.rows, 'row')}, and this one has {own.rows}"
        return difference(self.forms, own.forms)


def difference(there: dict[str, str], here: dict[str, str]) -> str | None:
    """The first array in which the states of two learners differ, in words; None: there is none.

    Args:
        there: what the arrays of the other learner are, by name.
        here: the same of this one.
    """
    for field, part in PARTS.items():
        of_part = ({name: form for name, form in each.items() if name.split("/")[0] == field} for each in (there, here))
        if wrong := first_difference(*of_part):
            return f"another {part}: {wrong}"
    return None


def first_difference(there: dict[str, str], here: dict[str, str]) -> str | None:
    """`difference` without what the array belongs to."""
    for name in {**here, **there}:
        if there.get(name) != here.get(name):
            return f"{name} is {there.get(name, 'missing')}, and in this learner it is {here.get(name, 'missing')}"
    return None


def encode(arrays: dict[str, np.ndarray], made_for: MadeFor, prng: str) -> bytes:
    """The bytes of a file.

    Args:
        arrays: the leaves of the state by name.
        made_for: the learner; the forms are those of the arrays.
        prng: the kind of the key.
    """
    header = {"kind": _KIND, "gradient": made_for.gradient, "rows": made_for.rows, "prng": prng, "sha256": _BLANK}
    data = save_arrays(arrays, header)
    return data.replace(_BLANK.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def decode(data: bytes) -> tuple[dict[str, np.ndarray], MadeFor, jax.Array]:
    """The arrays of a file, the learner for which it was made, and a key of the kind that its state has.

    Raises:
        ValueError: it is another kind of file, or a bit of it has changed.
    """
    made_for, header = _read_header(data[8 : 8 + int.from_bytes(data[:8], "little")])
    blank = data.replace(header["sha256"].encode(), _BLANK.encode(), 1)
    if hashlib.sha256(blank).hexdigest() != header["sha256"]:
        raise ValueError("its hash is not that of its bytes")
    return load_arrays(data)[0], made_for, jax.random.key(0, impl=header["prng"])


def there_for(path: Path) -> MadeFor | None:
    """The learner for which the file at a path was made; None: there is no file. Its arrays are not read.

    Raises:
        Error: it is another kind of file, and must not be replaced.
    """
    with disk_errors(path):
        try:
            file = open_plain(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with file:
            length = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
            text = file.read(min(length, size))
    try:
        return _read_header(text)[0]
    except READ_ERRORS as fault:
        # An empty file may be one that another program is about to fill.
        what = "another kind of file" if size else "an empty file"
        raise Error(f"{path} exists, and is {what}; name a new file, or remove this one first") from fault


def _read_header(text: bytes) -> tuple[MadeFor, dict[str, Any]]:
    """The learner for which a file was made, and the header that `encode` wrote, from the header of safetensors."""
    outer = from_json(text)
    header = from_json(outer["__metadata__"]["seqjax"])
    if header.get("kind") != _KIND:
        raise ValueError("it is another kind of file, and not the state of a Learner")
    return MadeFor(str(header["gradient"]), int(header["rows"]), forms_in(outer)), header

"""The metrics of a run in a file: one line of JSON for each epoch."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.array_files.saved_file import read, reading
from seqjax.files import disk_errors, open_plain
from seqjax.parse import objects_from_json
from seqjax.runs.files.folder import METRICS, check_lock

NEEDED = frozenset({"epoch", "update", "tokens", "seconds", "train_loss", "heldout_loss"})
"""The entries that every row has."""
LONGEST_ROW = 2**20
"""The number of bytes at the end of a file of metrics in which its last row is looked for."""
_NUMBERS = {int, float, type(None)}

Row = dict[str, Any]
"""The metrics of one epoch."""


class Counted(NamedTuple):
    """The rows that came before a checkpoint.

    Args:
        number: their number.
        sha256: the hash of their lines.
    """

    number: int
    sha256: str


def append_row(path: Path, row: Row) -> bytes:
    """Adds a row to the metrics of a run, and returns its line."""
    check_lock(path)
    line = encode_rows([row])
    with disk_errors(path / METRICS), open_plain(path / METRICS, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        file.write(line)
    return line


def read_rows(path: Path) -> list[Row]:
    """The metrics of a run, one row per epoch. An incomplete last line, which is being written, is left out.

    Raises:
        Error: exit code 4: they are damaged.
    """
    return read(path / METRICS, decode_rows)


def last_row(path: Path) -> Row:
    """The last complete row of the metrics of a run, which may be in training; empty if there is none.

    Raises:
        Error: exit code 4: it is no row.
    """
    if not (path / METRICS).is_file():
        return {}
    with reading(path / METRICS), open_plain(path / METRICS, os.O_RDONLY) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_ROW))
        complete, newline, _ = file.read(LONGEST_ROW).rpartition(b"\n")
        return _checked(objects_from_json([complete.rpartition(b"\n")[2]]))[0] if newline else {}


def encode_rows(rows: list[Row]) -> bytes:
    """The lines of rows, in which numbers that are not finite are null."""
    plain = [{key: value if math.isfinite(value) else None for key, value in row.items()} for row in rows]
    return b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in plain)


def decode_rows(data: bytes, counted: Counted | None = None) -> list[Row]:
    """The rows of the bytes of a file.

    Args:
        data: the bytes.
        counted: takes only the rows that came before a checkpoint; None: takes all.

    Raises:
        ValueError: rows are missing or have changed, or are not those of epochs 1, 2, ... with the same columns.
    """
    lines = data.split(b"\n")[:-1]
    if counted is not None:
        lines = lines[: counted.number]
        if hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest() != counted.sha256:
            raise ValueError(f"its first {counted.number} lines are not those that were written")
    rows = _checked(objects_from_json(lines))
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("its rows are not those of epochs 1, 2, ...")
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError("its rows have different columns")
    return rows


def _checked(rows: list[Row]) -> list[Row]:
    for row in rows:
        if not (row.keys() >= NEEDED and {*map(type, row.values())} <= _NUMBERS):
            raise ValueError(f"a row must have the columns {', '.join(sorted(NEEDED))}, and only numbers")
        if not (type(row["epoch"]) is int and row["epoch"] >= 1):
            raise ValueError(f"epoch = {row['epoch']!r} is no whole number from 1 on")
        row |= {key: math.nan for key, value in row.items() if value is None}
    return rows

"""The metrics of a run in a file: one line of JSON for each epoch, with a running hash that reveals a changed line."""

import hashlib
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

from seqjax.errors import Error, escape
from seqjax.files import disk_errors, open_plain, write
from seqjax.parse import objects_from_json
from seqjax.runs.binding import binding
from seqjax.runs.folder import METRICS, read

HASH = "hash"
"""The last entry of a line: a hash of the line without it and of the hash of the line before."""
NEEDED = frozenset({"epoch", "update", "tokens", "seconds", "train_loss", "heldout_loss"})
"""The entries that every row has."""
_NUMBERS = {int, float, type(None)}
_DIGITS = 16
_TAIL = len(f', "{HASH}": "') + _DIGITS + len('"}')


def append_row(path: Path, row: dict[str, Any], before: str) -> str:
    """Adds a row to the metrics of a run, and returns its hash.

    Args:
        path: the folder of the run.
        row: the row.
        before: the hash of the row before, or `first_hash`.
    """
    line, hash_ = _line(row, before)
    with disk_errors(path / METRICS), open_plain(path / METRICS, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        file.write(line)
    return hash_


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the metrics of a run: these rows and no others."""
    hash_, lines = first_hash(path), []
    for row in rows:
        line, hash_ = _line(row, hash_)
        lines.append(line)
    write(path / METRICS, b"".join(lines))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run, one row per epoch. An incomplete last line is left out, with a warning.

    Raises:
        Error: exit code 4: a line has changed or is missing, or belongs to another run.
    """

    def parse(data):
        whole, _, torn = data.rpartition(b"\n")
        if torn:
            warnings.warn(f"{escape(str(path / METRICS))}: its last line is incomplete, and is left out", stacklevel=4)
        lines, hash_ = whole.split(b"\n") if whole else [], first_hash(path)
        for number, line in enumerate(lines, 1):
            hash_ = _hash(line[:-_TAIL], hash_)
            if line[-_TAIL:] != _tail(hash_):
                raise ValueError(f"line {number} has changed, or belongs to another run")
        rows = _rows(lines)
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise ValueError("its rows are not those of epochs 1, 2, ...")
        return rows

    found: list[dict[str, Any]] = read(path / METRICS, parse)
    return found


def rewrite_rows(path: Path) -> None:
    """Writes the metrics of a run with hashes that are right, whatever they were."""

    def parse(data):
        return _rows(data.splitlines())

    write_rows(path, read(path / METRICS, parse))


def check_count(path: Path, rows: list[dict[str, Any]], epochs: int) -> None:
    """Checks that the metrics of a run have a row for each epoch that was trained before its last checkpoint.

    Raises:
        Error: exit code 4: rows are missing.
    """
    if len(rows) < epochs:
        raise Error(
            f"{path / METRICS}: it does not have a row for each of the {epochs} epochs that were trained\n"
            "No file was touched. Restore it, or train in another folder",
            exit_code=4,
        )


def last_row(path: Path) -> dict[str, Any]:
    """The last complete row of the metrics of a run, which may be in training; empty if there is none.

    Raises:
        Error: exit code 4: the row has changed.
    """
    if not (path / METRICS).is_file():
        return {}

    def parse(data):
        before, line = [b"", *data.rpartition(b"\n")[0].split(b"\n")][-2:]
        if not line:
            return {}
        hash_ = before[-_DIGITS - 2 : -2].decode("ascii") if before else first_hash(path)
        if line[-_TAIL:] != _tail(_hash(line[:-_TAIL], hash_)):
            raise ValueError("its last line has changed, or belongs to another run")
        return _row(line)

    found: dict[str, Any] = read(path / METRICS, parse)
    return found


def last_hash(path: Path) -> str:
    """The hash of the last row, which must be complete; without a row, `first_hash`."""
    data: bytes = read(path / METRICS, bytes)
    return data[-_DIGITS - 3 : -3].decode("ascii") if data else first_hash(path)


def first_hash(path: Path) -> str:
    """The hash before the first row, which depends on what the run was made of."""
    return _hash(json.dumps(binding(path), sort_keys=True).encode(), "")


def _row(line):
    (row,) = _rows([line])
    return row


def _rows(lines):
    rows = objects_from_json(lines)
    for row, line in zip(rows, lines, strict=True):
        row.pop(HASH, None)
        if not (row.keys() >= NEEDED and {*map(type, row.values())} <= _NUMBERS):
            raise ValueError(f"a row has another form than {', '.join(sorted(NEEDED))} and other names, with numbers")
        if row.keys() != rows[0].keys():
            raise ValueError(f"the row of epoch {row['epoch']!r} has other columns than the first one")
        if not (type(row["epoch"]) is int and row["epoch"] >= 1):
            raise ValueError(f"epoch = {row['epoch']!r} is no whole number from 1 on")
        if b"null" in line:
            row |= {key: math.nan for key, value in row.items() if value is None}
    return rows


def _line(row, before):
    """A line of JSON, in which numbers that are not finite are null, and its hash."""
    plain = {key: value if math.isfinite(value) else None for key, value in row.items()}
    text = json.dumps(plain, allow_nan=False).encode()[:-1]
    hash_ = _hash(text, before)
    return text + _tail(hash_) + b"\n", hash_


def _tail(hash_):
    return f', "{HASH}": "{hash_}"}}'.encode()


def _hash(text, before):
    return hashlib.sha256(before.encode() + text).hexdigest()[:_DIGITS]

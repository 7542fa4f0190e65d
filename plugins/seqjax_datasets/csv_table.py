"""A table of numbers in a file: CSV, Parquet or JSON lines."""

import csv
import functools
import io
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqjax import Error, Pairs, Series, Spec, Tokens, Values, register
from seqjax.data import FileDataset, read_file
from seqjax.errors import few, nearest
from seqjax.extras import needing


@register("dataset", "csv")
@dataclass(frozen=True)
class CSV(FileDataset):
    """A table in a file of CSV, Parquet (`*.parquet`) or JSON lines (`*.jsonl`), in which each row is a time step.

    The first line of a CSV file has the names of the columns. With `inputs`, the model reads these columns, and
    predicts the targets of the same row: `Pairs`. Without them, the targets are a `Series` in which each row predicts
    the next one. All cells that are used must be finite numbers.
    """

    also_called = ("table", "pandas", "dataframe", "parquet", "jsonl")

    path: str
    """Path of the file. Any file that does not end in .parquet or .jsonl is read as CSV, in UTF-8."""
    inputs: tuple[str, ...] = ()
    """The columns that the model reads. Empty: the targets are a series."""
    targets: tuple[str, ...] = ()
    """The columns that the model predicts. Empty: all columns but `sequence`, as a series."""
    sequence: str | None = None
    """The column that names the sequence of a row: consecutive rows with the same entry are a document, at whose start
    a model is reset. None: one sequence."""
    labels: tuple[str, ...] = ()
    """The classes, if the target column holds labels: label i becomes id i. Empty: targets are numbers."""
    scored: Literal["all", "last"] = "all"
    """The targets that count: all, or the target in the last row of each sequence. The other cells may be empty
    then."""
    delimiter: str = ","
    """The character between two cells."""

    def __post_init__(self):
        super().__post_init__()
        if self.inputs and not self.targets:
            raise Error("dataset csv: inputs need targets: name the columns to predict with --dataset.targets")
        if not self.inputs and (self.labels or self.scored != "all"):
            raise Error("dataset csv: labels and scored need inputs: name the columns to read with --dataset.inputs")
        if self.labels and (len(self.targets) != 1 or len(set(self.labels)) < len(self.labels)):
            raise Error("dataset csv: labels need one target column, and differ from each other")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            what = "it must be one character, and neither a quote nor the end of a line"
            raise Error(f"dataset csv: delimiter = {self.delimiter!r}: {what}")

    def load(self):
        """The columns as a `Series` or as `Pairs`."""
        table = self._read()
        bounds = _bounds(table, self.sequence)
        names = self.targets or tuple(name for name in table.names if name != self.sequence)
        if not self.inputs:
            return Series(_numbers(table, names), names, self.path, bounds)
        is_scored = np.ones(len(table.rows), bool)
        if self.scored == "last":
            is_scored[:] = False
            is_scored[np.asarray(bounds)[1:] - 1] = True
        if self.labels:
            targets = _ids(table, self.targets[0], self.labels, is_scored)
            spec = Spec(Values(len(self.inputs)), Tokens(len(self.labels)))
        else:
            targets = _numbers(table, names, is_scored, _advice(table, names, is_scored))
            spec = Spec(Values(len(self.inputs)), Values(len(names)))
        mask = None if is_scored.all() else is_scored
        return Pairs(_numbers(table, self.inputs), targets, mask, spec, bounds, self.path)

    def _read(self):
        """The table, in which the columns that are asked for are known."""
        if Path(self.path).suffix.lower() in ARROW:
            table = _read_arrow(self.path)
        else:
            table = _read_csv(self.path, self.delimiter)
        names = table.names
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise Error(f"dataset csv: {self.path} has several columns of the name {repeated[0]!r}")
        for line, cells in zip(table.lines, table.rows, strict=True):
            if len(cells) != len(names):
                raise Error(
                    f"dataset csv: {self.path}, line {line}: it has {len(cells)} cells, and the first line "
                    f"{len(names)} names\nCheck the line, or the separator: --dataset.delimiter"
                )
        asked = [*self.inputs, *self.targets, *([self.sequence] if self.sequence else [])]
        if unknown := [name for name in asked if name not in table.places]:
            raise Error(
                f"dataset csv: {self.path} has no column {unknown[0]!r}{nearest(unknown[0], names)} "
                f"(columns: {few(names)}){_why_unknown(names)}"
            )
        return table


def _why_unknown(names: Sequence[str]) -> str:
    """What may be wrong with a file whose columns have these names, as a line of a message."""
    marks = [mark for mark in ";\t|" if len(names) == 1 and mark in names[0]]
    if marks:
        shown = "$'\\t'" if marks[0] == "\t" else f"'{marks[0]}'"
        return f"\nIs the separator another one? --dataset.delimiter {shown}"
    if all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", name, re.IGNORECASE) for name in names):
        return "\nIts first line must have the names of the columns, and has numbers"
    return ""


GAPS = "Fill the gaps in the file, or leave such rows out"
"""What to do about a cell that cannot be read."""


@dataclass(frozen=True)
class _Table:
    """The cells of a file.

    Args:
        path: the file.
        names: the names of the columns.
        lines: the number of each row in the file, from 1; in a CSV file, the number of its last line.
        rows: the cells of each row.
        unit: what is numbered.
    """

    path: str
    names: list[str]
    lines: Sequence[int]
    rows: Sequence[list[str]]
    unit: str = "line"

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The place of each name. Searching a list for each name would take a time quadratic in their number."""
        return {name: n for n, name in enumerate(self.names)}

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        at = self.places[name]
        return [row[at].strip() for row in self.rows]

    def fault(self, row: int, name: str, cell: str, needed: str, advice: str = GAPS) -> Error:
        """The error about a cell."""
        shown = f"{cell!r:.80}" if cell else "an empty cell"
        where = f"{self.path}, {self.unit} {self.lines[row]}, column {name!r}"
        return Error(f"dataset csv: {where}: found {shown}, and needs {needed}\n{advice}")


def _read_csv(path: str, delimiter: str) -> _Table:
    """The table in a CSV file."""
    data = read_file(path, "csv")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        if data.startswith(b"\x93NUMPY"):
            raise Error(f"dataset csv: {path} is an npy file of numpy: --dataset npy") from fault
        line = data.count(b"\n", 0, fault.start) + 1
        raise Error(f"dataset csv: {path}, line {line}: it is not UTF-8; convert the file") from fault
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as fault:
        raise Error(f"dataset csv: {path}, line {reader.line_num}: {fault}") from fault
    while rows and not rows[-1][1]:
        rows.pop()
    names = [name.strip() for name in rows[0][1]] if rows else []
    # In a table of one column, an empty line is an empty cell.
    rows = [(line, cells or [""]) for line, cells in rows[1:] if cells or len(names) == 1]
    if not rows:
        raise Error(f"dataset csv: {path} needs a line of column names, and a line for each time step")
    return _Table(path, names, [line for line, _ in rows], [cells for _, cells in rows])


ARROW = (".parquet", ".jsonl")
"""The endings of the files that are read by the library pyarrow."""


def _read_arrow(path: str) -> _Table:
    """The table in a Parquet file, or in a file of JSON lines. Its cells become texts, as in a CSV file."""
    with needing("data", f"dataset csv: reading {path}"):
        import pyarrow.json
        import pyarrow.parquet

    data = io.BytesIO(read_file(path, "csv"))
    try:
        is_json = Path(path).suffix.lower() == ".jsonl"
        table = pyarrow.json.read_json(data) if is_json else pyarrow.parquet.read_table(data)
        columns = [list(map(_text, column.to_pylist())) for column in table.columns]
    # The library raises any exception for a damaged file, such as OSError and NotImplementedError.
    except Exception as fault:
        kind = "file of JSON lines" if is_json else "Parquet file"
        raise Error(
            f"dataset csv: {path} is damaged, or no {kind}: {fault!s:.200}\nWrite it again, or give it another ending"
        ) from fault
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    if not rows:
        raise Error(f"dataset csv: {path} has no rows; it needs one for each time step")
    return _Table(path, table.column_names, range(1, len(rows) + 1), rows, "row")


def _text(value: Any) -> str:
    """A value of a table as the text of a cell in a CSV file."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _advice(table: _Table, names: Sequence[str], used: np.ndarray) -> str:
    """What to do about a target that is no number: to name the labels, if it is one of several words."""
    labels = sorted({cell for cell, is_used in zip(table.column(names[0]), used, strict=True) if is_used and cell})
    if len(names) > 1 or not labels or any(np.isfinite(_number(label)) for label in labels):
        return GAPS
    shown = [*labels[:5], "..."] if len(labels) > 5 else labels
    return f"If the targets are classes, name all of them: --dataset.labels {shlex.quote(','.join(shown))}"


def _number(cell: str) -> float:
    """The number in a cell; NaN if there is none."""
    try:
        return float(cell.replace("_", "?"))  # Python would read 1_000
    except ValueError:
        return np.nan


def _numbers(table: _Table, names: Sequence[str], used: Any = None, advice: str = GAPS) -> np.ndarray:
    """Columns as float64[n, columns]; unused rows may hold anything, and become zeros."""
    numbers = np.zeros((len(table.rows), len(names)))
    for i, name in enumerate(names):
        for row, cell in enumerate(table.column(name)):
            if used is not None and not used[row]:
                continue
            numbers[row, i] = _number(cell)
            if not np.isfinite(numbers[row, i]):
                raise table.fault(row, name, cell, "a finite number", advice)
    return numbers


def _ids(table: _Table, name: str, labels: Sequence[str], used: np.ndarray) -> np.ndarray:
    """The numbers of the labels in a column, int32[n]."""
    number = {label: i for i, label in enumerate(labels)}
    ids = np.zeros(len(table.rows), np.int32)
    for row, cell in enumerate(table.column(name)):
        if used[row]:
            if cell not in number:
                raise table.fault(row, name, cell, f"one of the labels {', '.join(labels)}")
            ids[row] = number[cell]
    return ids


def _bounds(table: _Table, sequence: str | None) -> list[int]:
    """Where the sequences begin and end, [D + 1]."""
    if sequence is None:
        return [0, len(table.rows)]
    ids = table.column(sequence)
    starts = [row for row in range(len(ids)) if row == 0 or ids[row] != ids[row - 1]]
    known: set[str] = set()
    for row in starts:
        if ids[row] in known:
            needed = "the rows of a sequence one after the other"
            raise table.fault(row, sequence, ids[row], f"{needed}: this entry occurs in two places; sort the file")
        known.add(ids[row])
    return [*starts, len(ids)]

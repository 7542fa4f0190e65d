"""`Table`: named columns and rows, as text, for a terminal, as Markdown, LaTeX, CSV or a data frame."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.text import Text

from seqjax import files
from seqjax.errors import Error, check_type, check_whole, escape, few, nearest
from seqjax.report import latex
from seqjax.report.table_cell import DIGITS, format_column, is_number

GAP = "  "
"""What stands between two columns of a text."""


@dataclass(frozen=True)
class Table:
    """Named columns, and rows of numbers, texts and None (an empty cell).

    `print(table)` prints it as plain text, `rich.print(table)` as wide as the terminal, and a notebook shows its
    Markdown. A mean and its interval, which are three columns, are shown in one cell: `0.422 [0.415, 0.431]`. `to_csv`
    and `to_pandas` have all columns with all digits.

    Args:
        columns: the names of the columns, which differ.
        rows: each has one value for each column; scalars of numpy and JAX become Python's own.
        intervals: the columns of means that are followed by two columns with the ends of their intervals.
        best: column -> whether its lowest or its highest value is the best; `to_latex` shows these values in bold.
        digits: the significant digits that are shown; a number that is too large for them has no decimals, and integers
            are shown whole.

    Raises:
        Error: two columns of one name; a row of another length; a cell that holds several values; a column of
            `intervals` or `best` that is not there; another value of `best`; `digits` below 1.
    """

    columns: Sequence[str]
    """The names, a tuple."""
    rows: Sequence[Sequence[Any]]
    """The rows, a tuple of tuples."""
    intervals: Sequence[str] = ()
    """The columns that are followed by the ends of their intervals, a tuple."""
    best: Mapping[str, Literal["lowest", "highest"]] = field(default_factory=dict, hash=False)
    """Column -> which of its values is the best."""
    digits: int = DIGITS
    """The significant digits that are shown."""

    def __post_init__(self) -> None:
        check_type("columns", self.columns, Iterable, "a list of names")
        check_type("rows", self.rows, Iterable, "a list of rows, each with one value for each column")
        columns, rows = tuple(map(str, self.columns)), tuple(self.rows)
        for n, row in enumerate(rows):
            check_type(f"row {n}", row, Iterable, "one value for each column, in a list")
        rows = tuple(tuple(map(_plain, row)) for row in rows)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise Error(f"several columns are called {', '.join(twice)}; give each column a name of its own")
        for n, row in enumerate(rows):
            if len(row) != len(columns):
                raise Error(f"row {n} has {len(row)} values for {len(columns)} columns ({', '.join(columns)})")
        check_whole(digits=(self.digits, 1))
        is_known = isinstance(self.best, Mapping) and all(each in ("lowest", "highest") for each in self.best.values())
        if not is_known:
            raise Error(f"best = {self.best!r:.80}: choose 'lowest' or 'highest' for each column, in a dict")
        values = {"columns": columns, "rows": rows, "intervals": tuple(self.intervals), "best": dict(self.best)}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for name in [*self.intervals, *self.best]:
            if name not in columns or (name in self.intervals and columns.index(name) + 2 >= len(columns)):
                raise Error(f"no column {name!r}, or no two columns after it with the ends of its interval")

    def __getitem__(self, column: str) -> list[Any]:
        """The values of one column, from top to bottom."""
        _check_name(column, self.columns)
        index = self.columns.index(column)
        return [row[index] for row in self.rows]

    def choose(self, columns: Iterable[str] | Mapping[str, str] | None = None, digits: int | None = None) -> "Table":
        """The table with some of its columns, or with other digits.

        >>> from seqjax.report import Table
        >>> table = Table(["model", "runs", "loss", "from", "to"], [["gru", 5, 0.4219, 0.4152, 0.4311]], ["loss"])
        >>> print(table.choose(["loss", "model"], digits=3))
                          loss  model
        0.422 [0.415, 0.431]  gru

        Args:
            columns: the names in their new order; a mean comes with its interval. A dict gives them new names:
                `{"variant": "model", "last": "held-out loss"}`. None: all.
            digits: the significant digits; None: as before.

        Raises:
            Error: no such column; a new name that is no text, or is empty; `digits` as for a `Table`.
        """
        spans = self._spans()
        if isinstance(columns, str) or not isinstance(columns, Iterable | None):
            raise Error(f"columns = {columns!r:.80}: pass a list of names, such as {[*spans][:2]}")
        chosen = list(spans if columns is None else columns)
        if columns is not None and (not chosen or len({*map(str, chosen)}) < len(chosen)):
            raise Error(f"columns = {columns!r:.80}: choose at least one column, and none twice")
        for name in chosen:
            _check_name(name, spans)
        names = dict(columns) if isinstance(columns, Mapping) else dict(zip(chosen, chosen, strict=True))
        for name, new in names.items():
            if not isinstance(new, str) or not new.strip():
                raise Error(f"columns: the new name of {name!r} is {new!r:.80}; pass a text that is not empty")
        # The ends of an interval are named after their mean.
        renamed = [
            names[name] + column.removeprefix(name) if column.startswith(name) else column
            for name in names
            for column in self.columns[spans[name]]
        ]
        return dataclasses.replace(
            self,
            columns=renamed,
            rows=[[value for name in names for value in row[spans[name]]] for row in self.rows],
            intervals=[names[name] for name in names if name in self.intervals],
            best={names[name]: which for name, which in self.best.items() if name in names},
            digits=self.digits if digits is None else digits,
        )

    def __str__(self) -> str:
        lines = [[escape(cell) for cell in line] for line in self._lines()]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        right = self._are_numbers()
        padded = [map(_padded, line, widths, right) for line in lines]
        return "\n".join(GAP.join(line).rstrip() for line in padded)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """The table for a terminal: a cell that has no room goes on in the next line, and no text is markup."""
        # Imported here, since most programs that make tables print none on a terminal.
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable

        headings, *rows = self._lines()
        table = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="")
        for name, is_right in zip(headings, self._are_numbers(), strict=True):
            table.add_column(Text(escape(name)), justify="right" if is_right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(escape(cell)) for cell in row))
        yield table

    def to_markdown(self) -> str:
        """The table as GitHub's Markdown, with the digits of `str`."""
        right = self._are_numbers()
        rule = ["---:" if is_right else "---" for is_right in right]
        headings, *rows = self._lines()
        rows = [
            [cell if is_right else markdown(cell) for cell, is_right in zip(row, right, strict=True)] for row in rows
        ]
        lines = [list(map(markdown, headings)), rule, *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_csv(self) -> str:
        """The table as CSV (RFC 4180) with all digits; NaN is `nan`, None is empty.

        A text in which a spreadsheet would see a formula, since it begins with `=`, `+`, `-` or `@`, gets an apostrophe
        in front (https://owasp.org/www-community/attacks/CSV_Injection). Numbers stay as they are, and so do texts of
        numbers. Control characters but newlines are escaped.
        """
        text = io.StringIO()
        csv.writer(text).writerows([map(_csv_cell, row) for row in (self.columns, *self.rows)])
        return text.getvalue()

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        r"""The table as LaTeX, which needs `\usepackage{booktabs}`, with the digits of `str`.

        In the columns of `best`, a value is bold if no other value of its column is better than the better end of its
        interval; a value without an interval is bold if no other is better. Characters that LaTeX would interpret are
        escaped. Greek letters and signs such as ± become mathematics; other letters outside of ASCII stay as they are.

        Args:
            caption: the text above the table, which becomes a `table`; with neither caption nor label it is a
                `tabular`, for a `table` of your own.
            label: what `\ref` refers to, such as `"tab:losses"`.

        Raises:
            Error: a caption or a label that is no text; a label with characters that LaTeX cannot read.
        """
        columns = [[latex.plain(name), *self._latex_cells(name, cells)] for name, cells in self._cells().items()]
        return latex.table(list(zip(*columns, strict=True)), self._are_numbers(), caption, label)

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame` with all digits; None in a column of numbers becomes NaN.

        Raises:
            Error: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as cause:
            raise Error("to_pandas needs pandas, which is not installed: pip install pandas") from cause
        return pandas.DataFrame(list(self.rows), columns=list(self.columns))

    def write(self, file: str | Path) -> None:
        """Writes the table into a file, whose ending says how: `.md`, `.csv` or `.tex`.

        Raises:
            Error: another ending; exit code 6: the file cannot be written.
        """
        file = files.path_of("file", file)
        kinds = {".md": self.to_markdown, ".csv": self.to_csv, ".tex": self.to_latex}
        if file.suffix not in kinds:
            raise Error(f"{file}: a table is written as {', '.join(kinds)}; choose one of these endings")
        files.write(file, kinds[file.suffix]())

    def _spans(self) -> dict[str, slice]:
        """Shown column -> which values of a row are in its cell: one, or a mean and the ends of its interval."""
        spans, at = {}, 0
        while at < len(self.columns):
            name = self.columns[at]
            spans[name] = slice(at, at + (3 if name in self.intervals else 1))
            at = spans[name].stop
        return spans

    def _cells(self) -> dict[str, list[Sequence[Any]]]:
        """Shown column -> the values in each of its cells."""
        return {name: [row[span] for row in self.rows] for name, span in self._spans().items()}

    def _lines(self) -> list[list[str]]:
        """The texts of the headings and of the rows."""
        columns = [
            [name, *("{} [{}, {}]".format(*texts) if len(texts) > 1 else texts[0] for texts in shown)]
            for name, cells in self._cells().items()
            for shown in [format_column(cells, self.digits)]
        ]
        return [list(line) for line in zip(*columns, strict=True)]

    def _are_numbers(self) -> list[bool]:
        """For each shown column, whether it holds numbers (and empty cells) only."""
        return [
            all(is_number(cell[0]) or cell[0] is None for cell in cells) and any(is_number(cell[0]) for cell in cells)
            for cells in self._cells().values()
        ]

    def _latex_cells(self, name: str, cells: Sequence[Sequence[Any]]) -> list[str]:
        """The cells of a shown column in LaTeX."""
        is_bold = _unbeaten(cells, self.best[name]) if name in self.best else [False] * len(cells)
        return [
            latex.number(texts, bold) if is_number(cell[0]) and math.isfinite(cell[0]) else latex.plain(texts[0])
            for cell, texts, bold in zip(cells, format_column(cells, self.digits), is_bold, strict=True)
        ]


def _padded(cell: str, width: int, is_right: bool) -> str:
    """A cell with spaces up to a width; some letters are as wide as two others."""
    space = " " * (width - cell_len(cell))
    return space + cell if is_right else cell + space


def _check_name(column: object, known: Iterable[str]) -> None:
    known = list(known)
    if column not in known:
        raise Error(f"no column {column!r}{nearest(str(column), known)} (columns: {few(known)})")


def _unbeaten(cells: Sequence[Sequence[Any]], best: str) -> list[bool]:
    """Which values are best: no other value is better than the better end of their interval, or than the value itself.

    A single row has nothing to be compared with.
    """
    sign = 1 if best == "lowest" else -1
    known = [[sign * number for number in cell if is_number(number) and math.isfinite(number)] for cell in cells]
    leader = min((numbers[0] for numbers in known if numbers), default=math.nan)
    return [len(cells) > 1 and min(numbers, default=math.inf) <= leader for numbers in known]


def _plain(value: Any) -> Any:
    """A scalar of numpy or JAX as Python's own."""
    shape = getattr(value, "shape", None)
    if shape or isinstance(value, list | tuple | dict):
        raise Error(f"a cell of a table holds one value, not {value!r:.80}")
    return value if shape is None else value.item()


def markdown(text: str) -> str:
    """A text of which no character has a meaning in Markdown or HTML."""
    text = escape(text, keep="\n")
    # A "~" before a space strikes nothing out, and a "&" before one begins no entity.
    text = re.sub(r"[\\`*_\[|<]|&(?=[#\w])|~(?! )", r"\\\g<0>", text)
    return text.replace("\n", "<br>")


FORMULA = re.compile(r"[\s']*[=+@\uff1d\uff0b\uff0d\uff20-]")
"""The start of a text that a spreadsheet may evaluate; one that begins with an apostrophe gets another one."""


def _csv_cell(value: Any) -> Any:
    """A value as the module csv writes it: a text as it is, unless it would be a formula."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = escape(str(value), keep="\n")
    return f"'{text}" if FORMULA.match(text) and not _is_text_of_number(text) else text


def _is_text_of_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""`Table`: named columns and rows, as text for a terminal, Markdown, LaTeX, CSV or a data frame."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from seqjax.errors import Error, escape, few, nearest
from seqjax.report import latex, notebook


@dataclass(frozen=True)
class Table:
    """Named columns, and rows of numbers, texts and None (an empty cell).

    `str(table)` is for a terminal. It shows integers whole, and other numbers with four significant digits, or without
    decimals from 10,000 on. `to_csv` keeps all digits.

    Args:
        columns: the names of the columns, which differ.
        rows: each has one value for each column; scalars of numpy and JAX become Python's own.

    Raises:
        Error: two columns of one name; a row of another length; a cell that holds several values.
    """

    columns: Sequence[str]
    """The names, a tuple."""
    rows: Sequence[Sequence[Any]]
    """The rows, a tuple of tuples."""

    def __post_init__(self) -> None:
        columns = tuple(map(str, self.columns))
        rows = tuple(tuple(map(_plain, row)) for row in self.rows)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise Error(f"several columns are called {', '.join(twice)}; give each column a name of its own")
        for n, row in enumerate(rows):
            if len(row) != len(columns):
                raise Error(f"row {n} has {len(row)} values for {len(columns)} columns ({', '.join(columns)})")
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "rows", rows)

    def __getitem__(self, column: str) -> list[Any]:
        """The values of one column, from top to bottom."""
        if column not in self.columns:
            hint = nearest(str(column), self.columns)
            raise Error(f"no column {column!r}{hint} (columns: {few(self.columns)})")
        index = self.columns.index(column)
        return [row[index] for row in self.rows]

    def __str__(self) -> str:
        cells = [self.columns, *(map(format_cell, row) for row in self.rows)]
        lines = [[escape(cell) for cell in line] for line in cells]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        right = self._are_numbers()
        return "\n".join(
            "  ".join(_pad(*cell) for cell in zip(line, widths, right, strict=True)).rstrip() for line in lines
        )

    def to_markdown(self) -> str:
        """The table as GitHub's Markdown, with the digits of `str`."""
        rule = ["---:" if right else "---" for right in self._are_numbers()]
        lines = [map(markdown, self.columns), rule, *(map(markdown, map(format_cell, row)) for row in self.rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_html(self) -> str:
        """The table as HTML, with the digits of `str`; of a long one the first and the last rows."""
        return notebook.table(self.columns, [tuple(map(format_cell, row)) for row in self.rows], self._are_numbers())

    def _repr_html_(self) -> str:
        return notebook.show(self.to_html)

    # This one is used when a notebook is converted to LaTeX.
    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def to_csv(self) -> str:
        """The table as CSV (RFC 4180) with all digits; NaN is `nan`, None is empty.

        A text in which a spreadsheet would see a formula, since it begins with `=`, `+`, `-` or `@`, gets an apostrophe
        in front (https://owasp.org/www-community/attacks/CSV_Injection), which `csv_text` takes away. Numbers stay as
        they are, and so do texts of numbers. Control characters but newlines are escaped.
        """
        text = io.StringIO()
        csv.writer(text).writerows([map(_csv_cell, row) for row in (self.columns, *self.rows)])
        return text.getvalue()

    def to_latex(self) -> str:
        r"""The table as a `tabular` of LaTeX, with the digits of `str`; it needs `\usepackage{booktabs}`.

        Columns of numbers are aligned to the right. Characters that LaTeX would interpret are escaped; letters outside
        of ASCII stay as they are.
        """
        columns = "".join("r" if right else "l" for right in self._are_numbers())
        head, *lines = [map(latex.plain, self.columns), *(map(_latex_cell, row) for row in self.rows)]
        body = "".join(f"{' & '.join(line)} \\\\\n" for line in lines)
        return (
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n"
            f"{body}\\bottomrule\n\\end{{tabular}}\n"
        )

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

    def _are_numbers(self) -> list[bool]:
        """For each column, whether it holds numbers (and empty cells) only."""
        return [
            all(_is_number(value) or value is None for value in values) and any(map(_is_number, values))
            for values in map(self.__getitem__, self.columns)
        ]


def format_cell(value: Any) -> str:
    """The text of a cell: four significant digits, commas between thousands, None empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float) or not math.isfinite(value):
        return "" if value is None else str(value)
    # Numbers that four digits would round to 10,000 or more have no decimals: 12,345 is easier to read than 1.235e+04.
    if 9999.5 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-4 or abs(value) >= 1e9:
        return f"{value:.3e}"
    # "#" keeps zeros at the end, and a point behind four digits before it.
    return f"{value:#.4g}".removesuffix(".")


def _plain(value: Any) -> Any:
    """A scalar of numpy or JAX as Python's own."""
    shape = getattr(value, "shape", None)
    if shape or isinstance(value, list | tuple | dict):
        raise Error(f"a cell of a table holds one value, not {value!r:.80}")
    return value if shape is None else value.item()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pad(text: str, width: int, right: bool) -> str:
    """A text that is aligned in a terminal, where some characters are two cells wide."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def csv_text(cell: str) -> str:
    """The text of a cell that was read from what `Table.to_csv` has written."""
    return cell.removeprefix("'") if FORMULA.match(cell) else cell


def markdown(text: str) -> str:
    """A text of which no character has a meaning in Markdown or HTML."""
    text = escape(text, keep="\n")
    # A "~" before a space strikes nothing out, and a "&" before one begins no entity.
    text = re.sub(r"[\\`*_\[|<]|&(?=[#\w])|~(?! )", r"\\\g<0>", text)
    return text.replace("\n", "<br>")


def plain(text: str) -> str:
    """The text of one line that `markdown` was given."""
    return re.sub(r"\\([\\`*_\[|<&~])", r"\1", text)


FORMULA = re.compile(r"[\s']*[=+@\uff1d\uff0b\uff0d\uff20-]")
"""The start of a text that a spreadsheet may evaluate. It includes apostrophes: `csv_text` undoes `_csv_cell`."""


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


def _latex_cell(value: Any) -> str:
    """A cell in LaTeX; a number is set as mathematics, so that its sign is a minus and not a hyphen."""
    text = format_cell(value)
    if not _is_number(value) or not math.isfinite(value):
        return latex.plain(text)
    digits, _, exponent = text.replace(",", "{,}").partition("e")
    return f"${digits}$" if not exponent else rf"${digits} \times 10^{{{int(exponent)}}}$"

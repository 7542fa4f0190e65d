"""`Report`: what an experiment found, beside what it should have found."""

import ast
import io
import re
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from seqjax.errors import Error
from seqjax.files import PLAIN_NAME, disk_errors, write
from seqjax.report.expected import in_expected_digits, is_met
from seqjax.report.table import Table, format_cell


class Report:
    """Numbers, tables and figures of an experiment, as text, as Markdown and as a folder of files.

    The script's docstring says what is asked: its first line is the title, with the command after two or more spaces.

    Args:
        file: the script, `__file__`; it is read, not run.
        folder: where `save` writes by default; None: `reports/<name of the script>`.

    Raises:
        Error: a file that cannot be read as Python.
    """

    def __init__(self, file: str | Path, folder: str | Path | None = None):
        doc = _docstring(Path(file))
        first, _, text = doc.partition("\n")
        self.title, *command = re.split(r"\s{2,}", first.strip() or Path(file).stem, maxsplit=1)
        self.command = command[0] if command else ""
        self.text = text.strip()
        self.folder = Path("reports", Path(file).stem) if folder is None else Path(folder)
        self.tables: dict[str, Table] = {}
        self.figures: dict[str, Figure] = {}
        self._rows: list[tuple[Any, ...]] = []

    def row(self, what: str, got: Any, expected: str = "") -> None:
        """Adds a result.

        Args:
            what: what was measured, with its unit.
            got: a number or a text; or numbers, one a seed: their median, lowest and highest are shown.
            expected: what it should be, such as "= 28", "~ .0538 (.0471 to .0617)" or "<= 1.4", shown beside it, with
                yes or no where that can be told (of several seeds for their median); any other text is a remark.

        Raises:
            Error: neither a number nor a text nor a list of numbers.
        """
        if not isinstance(expected, str):
            raise Error(f'row {what!r}: expected is a text, such as "= {expected}", not {expected!r:.80}')
        if isinstance(got, str):
            found: tuple[Any, ...] = (got, None, None, None)
        elif (values := _numbers(what, got)).ndim == 0:
            found = (values.item(), None, None, None)
        else:
            found = (np.median(values).item(), values.min(), values.max(), len(values))
        met = {None: "", True: "yes", False: "no"}[is_met(found[0], expected)]
        self._rows.append((what, *found, expected, met))

    def table(self, name: str, table: Any) -> None:
        """Adds a `Table`, or anything with columns and rows; it is saved as `<name>.csv`."""
        self._check_name(name)
        if not (hasattr(table, "columns") and hasattr(table, "rows")):
            raise Error(f"table {name!r}: a {type(table).__name__} has no columns and rows; make it a Table")
        self.tables[name] = table if isinstance(table, Table) else Table(table.columns, table.rows)

    def figure(self, name: str, figure: Figure) -> None:
        """Adds a matplotlib figure; it is saved as `<name>.png`, `.svg` and, what is drawn in it, `.csv`."""
        self._check_name(name)
        self.figures[name] = figure

    @property
    def rows(self) -> Table:
        """The results in numbers: what, got (of several seeds the median), low, high, n, expected, met."""
        return Table(("what", "got", "low", "high", "n", "expected", "met"), self._rows)

    def __str__(self) -> str:
        parts = [self.title]
        if self._rows:
            parts.append(str(self._summary()))
        parts += [f"{name}\n{table}" for name, table in self.tables.items()]
        if self.figures:
            parts.append(f"figures: {', '.join(self.figures)}")
        return "\n\n".join(parts)

    def to_markdown(self) -> str:
        """The report as Markdown, which refers to the files that `save` puts beside it."""
        parts = [f"# {self.title}"]
        if self.command:
            parts.append(f"    {self.command}")
        if self.text:
            parts.append(self.text)
        if self._rows:
            parts.append(f"{self._summary().to_markdown()}\nIn full: [rows.csv](rows.csv)")
        for name, table in self.tables.items():
            parts.append(f"## {name}\n\n{table.to_markdown()}\nIn full: [{name}.csv]({name}.csv)")
        for name, figure in self.figures.items():
            kinds = ["svg", "csv"] if _has_data(figure) else ["svg"]
            links = ", ".join(f"[{name}.{kind}]({name}.{kind})" for kind in kinds)
            parts.append(f"## {name}\n\n![{name}]({name}.png)\n\nAlso: {links}")
        return "\n\n".join(parts) + "\n"

    def save(self, folder: str | Path | None = None) -> Path:
        """Writes `report.md`, `rows.csv`, a CSV a table, and a PNG, an SVG and a CSV a figure.

        The same report gives the same bytes. Files of these names are written over, others are left alone.

        Args:
            folder: is made where it is missing; None: the report's own.

        Returns:
            The folder.

        Raises:
            Error: exit code 6: the folder cannot be written.
        """
        folder = self.folder if folder is None else Path(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        markdown = self.to_markdown()
        if self._rows:
            write(folder / "rows.csv", self.rows.to_csv())
        for name, table in self.tables.items():
            write(folder / f"{name}.csv", table.to_csv())
        for name, figure in self.figures.items():
            if _has_data(figure):
                write(folder / f"{name}.csv", _data(figure).to_csv())
            write(folder / f"{name}.png", _image(figure, "png"))
            write(folder / f"{name}.svg", _image(figure, "svg"))
        write(folder / "report.md", markdown)
        return folder

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _summary(self) -> Table:
        """The results as people read them: expected beside got."""
        return Table(
            ("what", "got", "expected", "met"),
            [
                (what, format_result(got, low, high, n, expected), expected, met)
                for what, got, low, high, n, expected, met in self._rows
            ],
        )

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(PLAIN_NAME, name):
            raise Error(f"{name!r} names files, and is no plain name: letters, digits, '.', '_', '-', at most 100")
        taken = {"rows", "report", *self.tables, *self.figures}
        if name.lower() in map(str.lower, taken):
            raise Error(f"{name!r} is taken by another part of the report; choose another name")


def _docstring(file: Path) -> str:
    """The docstring of a Python file, which is not run."""
    try:
        return ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise Error(f"{file}: cannot be read as Python: {reason}; a report is of a script: Report(__file__)") from fault


def _numbers(what: str, got: Any) -> np.ndarray:
    """A number [] or numbers [n]; integers stay integers."""
    try:
        values = np.asarray(got)
        values = values if values.dtype.kind in "biuOSUc" else values.astype(np.float64)
    except (TypeError, ValueError) as fault:
        raise Error(f"row {what!r}: a number, a text or a list of numbers, not {got!r:.80}") from fault
    if values.dtype.kind in "OSUc":
        raise Error(f"row {what!r}: a number, a text or a list of numbers, not {got!r:.80}")
    if values.ndim > 1 or not values.size:
        raise Error(f"row {what!r}: one number, or one a seed, not an array of shape {list(values.shape)}")
    return values


def format_result(got: Any, low: float | None, high: float | None, n: int | None, expected: str) -> str:
    """A value, or a median with its range, such as `0.05380 (0.04710 to 0.06170, n = 20)`."""
    if n is not None:
        return f"{format_cell(got)} ({format_cell(low)} to {format_cell(high)}, n = {n})"
    return (None if isinstance(got, str) else in_expected_digits(got, expected)) or format_cell(got)


def _image(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a file, without a date and with identifiers that do not change."""
    data = io.BytesIO()
    metadata = {"Date" if kind == "svg" else "Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "seqjax"}):
        for _ in range(2):  # the layout starts from where the last drawing left it, and settles
            figure.draw_without_rendering()
        figure.savefig(data, format=kind, dpi=150, metadata=metadata)
    return data.getvalue()


def _has_data(figure: Figure) -> bool:
    return any(axes.lines or _matrices(axes) for axes in figure.axes)


def _matrices(axes: Axes) -> list[AxesImage]:
    """The images whose colours stand for numbers, which a photograph's do not."""
    return [image for image in axes.images if (cells := image.get_array()) is not None and cells.ndim == 2]


def _data(figure: Figure) -> Table:
    """The points of each line by its name, and each cell of a matrix by the names of its row (name) and column (x)."""
    rows: list[tuple[Any, ...]] = []
    for axes in figure.axes:
        for line in axes.lines:
            name, points = str(line.get_label()).removeprefix("_"), cast(Any, line.get_data())
            rows += [(name, x, y) for x, y in zip(*points, strict=True)]
        for image in _matrices(axes):
            values = np.ma.filled(np.ma.asarray(image.get_array(), np.float64), np.nan)
            row_names = axes.yaxis.get_major_formatter().format_ticks(list(range(len(values))))
            column_names = axes.xaxis.get_major_formatter().format_ticks(list(range(len(values[0]))))
            rows += [(row_names[i], column_names[j], value) for (i, j), value in np.ndenumerate(values)]
    return Table(("name", "x", "y"), rows)

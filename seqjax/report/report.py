"""`Report`: the results of an experiment beside what they should be, with its tables and figures."""

import ast
import contextlib
import math
import numbers
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqjax.errors import LINES, Error, check_type, escape
from seqjax.extras import needing
from seqjax.files import PLAIN_NAME, disk_errors, path_of, replace, write
from seqjax.report import notebook
from seqjax.report.table import Table, markdown
from seqjax.report.table_cell import format_cell

if TYPE_CHECKING:  # matplotlib takes long to import, and may not be installed
    from matplotlib.figure import Figure

REPORT, ROWS, PAGE = "report.md", "rows.csv", "report.html"
"""The files with the whole report and with the results alone."""
MOST_LETTERS = 60
"""The length of a folder's name that is made of a title."""


@dataclass(frozen=True)
class Expected:
    """What a result should be, as a condition and as a text.

    `exactly`, `between`, `at_most`, `at_least`, `less_than` and `more_than` make the usual ones. They show a number
    without a zero before the point: `at_least(0.65)` as ">= .65". A number in quotes is shown as it is, which keeps
    commas, zeros at the end and powers of ten: `exactly("8,960")`, `exactly("3.5e15")`.

    Raises:
        Error: a limit that is not a number; an interval that is empty.
    """

    text: str
    """The text that is shown beside the result, such as "~ .0538 (.0471 to .0617)"."""
    is_met: Callable[[float | str], bool]
    """Whether a result is as expected."""
    digits: str = ""
    """The format in which a number is shown and compared, such as ",.6f"; "": it is not rounded."""

    def __str__(self) -> str:
        return self.text


def exactly(value: float | str) -> Expected:
    """Equal to a number in as many digits as it has, or to a text; shown as `= 28`."""
    text = _typed(value)
    try:
        number = _to_float(text)
    except ValueError:
        return Expected(f"= {text}", lambda got: got == text)
    mantissa, _, exponent = text.partition("e")
    # "z": a number that is rounded to zero has no sign.
    digits = f"z,.{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}"

    def is_met(got: float | str) -> bool:
        return got == text if isinstance(got, str) else _to_float(format(got, digits)) == number

    return Expected(f"= {text}", is_met, digits)


def between(low: float | str, high: float | str, about: float | str | None = None) -> Expected:
    """From `low` to `high`, both included, shown as `~ .0538 (.0471 to .0617)`; `about` is not compared."""
    least, most = _limit(low), _limit(high)
    if not least <= most:
        raise Error(f"between({low}, {high}) contains no number; give the lower end first")
    interval = f"{_typed(low)} to {_typed(high)}"
    text = interval if about is None else f"~ {_typed(about)} ({interval})"
    return Expected(text, lambda got: not isinstance(got, str) and least <= got <= most)


def at_most(limit: float | str) -> Expected:
    """At most `limit`, shown as `<= 1.4`."""
    return _compared("<=", operator.le, limit)


def at_least(limit: float | str) -> Expected:
    """At least `limit`, shown as `>= .65`."""
    return _compared(">=", operator.ge, limit)


def less_than(limit: float | str) -> Expected:
    """Less than `limit`, shown as `< 0`."""
    return _compared("<", operator.lt, limit)


def more_than(limit: float | str) -> Expected:
    """More than `limit`, shown as `> 8`."""
    return _compared(">", operator.gt, limit)


class Report:
    """Numbers, tables and figures of an experiment, as text, as Markdown and as a folder of files.

    A report is about a script, `Report(__file__)`, or has a title, `Report(title="Does it rain?")`, as in a notebook.
    The first line of a script's docstring is the title. The command may follow it after two or more spaces. The rest of
    the docstring is the text.

    >>> import seqjax as sj
    >>> from seqjax.report import at_most, exactly
    >>> report = sj.Report(title="Does it rain?")
    >>> report.row("wet days", [3, 5, 4], exactly(4))
    >>> report.row("relative bias", 0.03, at_most(0.05))
    >>> print(report)
    Does it rain?
    <BLANKLINE>
    what           got                    expected  met
    wet days       4.000 (3 to 5, n = 3)  = 4       yes
    relative bias  0.03000                <= .05    yes

    Args:
        file: the script, `__file__`; it is read, not run.
        folder: where `save` writes by default; None: `reports/<name of the script>`, or `reports/<words of the title>`.
        title: the title of a report without a script.
        text: the text of a report without a script, as Markdown.
        html: whether `save` writes `report.html`, too, the file that `page` writes.

    Raises:
        Error: a file that cannot be read as Python; both a script and a title or text; neither a script nor a title.
    """

    def __init__(
        self,
        file: str | Path | None = None,
        folder: str | Path | None = None,
        *,
        title: str = "",
        text: str = "",
        html: bool = False,
    ):
        command: list[str] = []
        for argument, value in (("title", title), ("text", text)):
            check_type(f"Report: {argument}", value, str, "a text")
        if file is None and title:
            title = " ".join(title.split())
            name = re.sub(r"\W+", "-", title.lower()).strip("-")[:MOST_LETTERS] or "report"
        elif file is not None and not (title or text):
            first, _, text = _docstring(path_of("file", file)).partition("\n")
            name = Path(file).stem
            title, *command = re.split(r"\s{2,}", first.strip() or name, maxsplit=1)
        else:
            raise Error(
                "a report is about a script, whose docstring has its title and its text: Report(__file__); "
                'or it is given both: Report(title="...", text="...")'
            )
        self.title, self.command, self.text, self.html = title, "".join(command), text.strip(), html
        self.folder = Path("reports", name) if folder is None else path_of("folder", folder)
        self.tables: dict[str, Table] = {}
        self.figures: dict[str, Figure] = {}
        self.texts: dict[str, str] = {}
        self._parts: dict[str, bool] = {}  # in their order: name -> whether it is folded
        self._rows: list[tuple[Any, ...]] = []

    def row(self, what: str, got: Any, expected: Expected | str = "") -> None:
        """Adds a result.

        Args:
            what: what was measured, with its unit.
            got: a number or a text; or numbers, one for each seed, of which the median, the lowest and the highest are
                shown.
            expected: what the result (for several seeds, their median) should be, such as `exactly(28)`,
                `between(.0471, .0617)` or `at_most(1.4)`: it is shown beside the result, with yes or no. A text is a
                remark, without yes or no.

        Raises:
            Error: `got` is neither a number nor a text nor a list of numbers; `expected` is of another type.
        """
        if not isinstance(expected, Expected | str):
            raise Error(
                f"row {what!r}: expected is exactly({expected}), at_most({expected}), ... or a remark in quotes"
            )
        if isinstance(got, str):
            numbers: tuple[Any, ...] = (got, None, None, None)
        elif (values := _results(what, got)).ndim == 0:
            numbers = (values.item(), None, None, None)
        else:
            numbers = (np.median(values).item(), values.min(), values.max(), len(values))
        met = "" if isinstance(expected, str) else "yes" if expected.is_met(numbers[0]) else "no"
        digits = "" if isinstance(expected, str) else expected.digits
        self._rows.append((what, *numbers, _shown(numbers, digits), str(expected), met))

    def section(self, name: str, text: str, *, folded: bool = False) -> None:
        """Adds a text with a heading, which is the name, with spaces in place of underscores.

        Sections, tables and figures follow each other in the order in which they are added.

        Args:
            name: the name.
            text: the text, as Markdown.
            folded: whether the page shows the heading alone until the reader opens it; so for tables and figures.
        """
        check_type(f"section {name!r}", text, str, "a text")
        self._add(name, folded)
        self.texts[name] = text.strip()

    def table(self, name: str, table: Any, *, folded: bool = False) -> None:
        """Adds a `Table`, or anything with columns and rows; it is saved as `<name>.csv`.

        Its heading is the name, with spaces in place of underscores. `folded`: as in `section`.
        """
        if not (hasattr(table, "columns") and hasattr(table, "rows")):
            raise Error(f"table {name!r}: a {type(table).__name__} has no columns and rows; make it a Table")
        self._add(name, folded)
        self.tables[name] = table if isinstance(table, Table) else Table(table.columns, table.rows)

    def figure(self, name: str, figure: "Figure", *, folded: bool = False) -> None:
        """Adds a matplotlib figure; it is saved as `<name>.png` and `<name>.svg`.

        A figure of `seqjax.plot` has a caption, which stands below it, and a table, which is saved as `<name>.csv`.

        Its heading is the name, with spaces in place of underscores. `folded`: as in `section`.

        Raises:
            Error: the name is taken, or cannot name a file; it is no figure.
        """
        with needing("plot", f"figure {name!r}"):
            from matplotlib.figure import Figure

        check_type(f"figure {name!r}", figure, Figure, "a figure of matplotlib")
        self._add(name, folded)
        self.figures[name] = figure

    @property
    def results(self) -> Table:
        """The results: what, got (the median over the seeds), low, high, n, shown (as a text), expected, met."""
        return Table(("what", "got", "low", "high", "n", "shown", "expected", "met"), self._rows)

    def __str__(self) -> str:
        parts = [escape(self.title)]
        if self._rows:
            parts.append(str(self._summary()))
        parts += [f"{name}\n{table}" for name, table in self.tables.items()]
        if self.figures:
            parts.append(f"figures: {', '.join(self.figures)}")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        parts = {"results": self._rows, "tables": self.tables, "figures": self.figures}
        return f"Report({self.title!r}, {', '.join(f'{name} {len(part)}' for name, part in parts.items())})"

    def to_markdown(self) -> str:
        """The report as Markdown, which refers to the files that `save` puts beside it."""
        parts = [f"# {markdown(self.title)}"]
        if self.command:
            parts.append(f"    {escape(self.command)}")
        if self.text:
            parts.append(escape(self.text, LINES))
        if self._rows:
            parts.append(f"{self._summary().to_markdown()}\nIn full: [{ROWS}]({ROWS})")
        for name, folded in self._parts.items():
            body = self._body(name)
            if folded:
                parts.append(f"<details>\n<summary>{markdown(_words(name))}</summary>\n\n{body}\n\n</details>")
            else:
                parts.append(f"## {_words(name)}\n\n{body}")
        return "\n\n".join(parts) + "\n"

    def _body(self, name: str) -> str:
        """What is below the heading of a section, a table or a figure, as Markdown."""
        if name in self.texts:
            return escape(self.texts[name], LINES)
        if name in self.tables:
            return f"{self.tables[name].to_markdown()}\nIn full: [{name}.csv]({name}.csv)"
        kinds = ["svg"] if _table(self.figures[name]) is None else ["svg", "csv"]
        links = ", ".join(f"[{name}.{kind}]({name}.{kind})" for kind in kinds)
        return f"![{_words(name)}]({name}.png)\n\n{_caption(self.figures[name])}Also: {links}"

    def save(self, folder: str | Path | None = None) -> Path:
        """Writes `report.md`, `rows.csv`, a CSV for each table, and a PNG, an SVG and a CSV for each figure.

        With `html`, `report.html` is written, too. The same report gives the same bytes. Files with these names are
        replaced, other files are left alone.

        Args:
            folder: is made if it is missing; None: the report's own.

        Returns:
            The folder.

        Raises:
            Error: the folder has a `report.html` that is no page of seqjax, and no file was touched; exit code 6: the
                folder cannot be written.
        """
        folder = self.folder if folder is None else path_of("folder", folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        markdown = self.to_markdown()
        # First, since it only replaces the page of a report: if it cannot be written, no other file is touched.
        if self.html:
            self.page(folder / PAGE)
        if self._rows:
            write(folder / ROWS, self.results.to_csv())
        for name, table in self.tables.items():
            write(folder / f"{name}.csv", table.to_csv())
        for name, figure in self.figures.items():
            if (drawn := _table(figure)) is not None:
                write(folder / f"{name}.csv", drawn.to_csv())
            write(folder / f"{name}.png", _image(figure, "png"))
            write(folder / f"{name}.svg", _image(figure, "svg"))
        # Last, so that a folder with a report has all files that the report refers to.
        write(folder / REPORT, markdown)
        return folder

    def page(self, file: str | Path) -> None:
        """Writes the report as one HTML file that contains its figures, and needs no network.

        Args:
            file: is written. It replaces an earlier page, and nothing else.

        Raises:
            Error: exit code 6: the file cannot be written.
        """
        from seqjax.report.page.markdown import html_of
        from seqjax.report.page.template import MARK, Section, page, table

        bodies = {name: html_of(text) for name, text in self.texts.items()}
        bodies |= {name: table(content, _words(name)) for name, content in self.tables.items()}
        for name, figure in self.figures.items():
            image = f"{name}.png"
            text = f"![{_words(name)}]({image})\n\n{_caption(figure)}"
            bodies[name] = html_of(text, {image: _image(figure, "png")})
        sections = [Section("results", "results", table(self._summary(), "results"))] if self._rows else []
        sections += [Section(name, _words(name), bodies[name], folded) for name, folded in self._parts.items()]
        replace(path_of("file", file), page(self.title, html_of(self.text), sections, ["tables.js"]), MARK)

    def _repr_html_(self) -> str:
        from markdown_it import MarkdownIt

        return notebook.show(
            lambda: notebook.text(self.title, "h3"),
            lambda: MarkdownIt("commonmark", {"html": False}).render(self.text),
            lambda: self._summary().to_html() if self._rows else "",
            *(partial(_named, name, partial(self._body_html, name)) for name in self._parts),
        )

    def _body_html(self, name: str) -> str:
        """What is below the heading of a part, for a notebook."""
        from markdown_it import MarkdownIt

        if name in self.texts:
            return MarkdownIt("commonmark", {"html": False}).render(self.texts[name])
        return self.tables[name].to_html() if name in self.tables else notebook.image(self.figures[name], name)

    def _summary(self) -> Table:
        """The results for a reader."""
        columns = ("what", "got", "expected", "met")
        return Table(columns, [(what, shown, expected, met) for what, *_, shown, expected, met in self._rows])

    def _add(self, name: str, folded: bool) -> None:
        """Checks the name of a part, and adds it."""
        if not isinstance(name, str) or not re.fullmatch(PLAIN_NAME, name):
            raise Error(f"{name!r} cannot name files; use letters, digits, '.', '_' and '-', at most 100 of them")
        taken = {Path(REPORT).stem, Path(ROWS).stem, *self._parts}
        if name.lower() in map(str.lower, taken):
            raise Error(f"{name!r} is taken by another part of the report; choose another name")
        self._parts[name] = folded


def _compared(sign: str, compare: Callable[[float, float], bool], limit: float | str) -> Expected:
    number = _limit(limit)
    return Expected(f"{sign} {_typed(limit)}", lambda got: not isinstance(got, str) and compare(got, number))


def _typed(value: float | str) -> str:
    """A number as a person types it, such as ".05", "3e-9" or "28"; a text as it is."""
    if isinstance(value, str):
        return value
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise Error(f"{value!r:.80} cannot be compared with a result, since it is neither a number nor a text")
    text = str(value).replace("e-0", "e-").replace("e+", "e")
    return text.replace("0.", ".", 1) if 0 < abs(value) < 1 else text


def _to_float(text: str) -> float:
    return float(text.replace(",", ""))


def _limit(value: float | str) -> float:
    text = _typed(value)
    with contextlib.suppress(ValueError):
        if not math.isnan(limit := _to_float(text)):
            return limit
    raise Error(f"{value!r} cannot be a limit of a result, since it is not a number")


def _shown(numbers: tuple[Any, ...], digits: str) -> str:
    """A result, or a median with its range, such as `0.05380 (0.04710 to 0.06170, n = 20)`."""
    got, low, high, n = numbers
    if n is not None:
        return f"{format_cell(got)} ({format_cell(low)} to {format_cell(high)}, n = {n})"
    return format(got, digits) if digits and not isinstance(got, str) else format_cell(got)


def _docstring(file: Path) -> str:
    """The docstring of a Python file, which is not run."""
    try:
        return ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except (OSError, SyntaxError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise Error(
            f"{file} cannot be read as Python: {reason}; a report is about a script: Report(__file__)"
        ) from fault


def _results(what: str, got: Any) -> np.ndarray:
    """A number [] or numbers [n]; integers stay integers."""
    try:
        values = np.asarray(got)
        # Numpy cannot take the median of some float types of JAX, such as bfloat16.
        values = values if values.dtype.kind in "biuOSUc" else values.astype(np.float64)
    except (TypeError, ValueError) as fault:
        raise Error(f"row {what!r}: a number, a text or a list of numbers, not {got!r:.80}") from fault
    if values.dtype.kind in "OSUc":
        raise Error(f"row {what!r}: a number, a text or a list of numbers, not {got!r:.80}")
    if values.ndim > 1 or not values.size:
        raise Error(f"row {what!r}: one number, or one for each seed, not an array of shape {list(values.shape)}")
    return values


def _named(name: str, inner: Callable[[], str]) -> str:
    """A table or a figure as HTML, under its name."""
    return notebook.text(name, "h4") + inner()


def _words(name: str) -> str:
    """The name of a table or figure as a heading."""
    return name.replace("_", " ")


def _image(figure: "Figure", kind: str) -> bytes:
    from seqjax.report.figure import image_bytes  # whoever has a figure has imported matplotlib

    return image_bytes(figure, kind)


def _table(figure: "Figure") -> Table | None:
    """The numbers that a figure of seqjax shows; None: it is another figure of matplotlib."""
    return getattr(figure, "table", None)


def _caption(figure: "Figure") -> str:
    """The caption of a figure of seqjax as a paragraph of Markdown."""
    text = getattr(figure, "caption_text", "")
    return f"{markdown(text)}\n\n" if text else ""

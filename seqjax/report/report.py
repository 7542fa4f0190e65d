"""`Report`: the results of an experiment beside what they should be, with its tables and figures."""

import importlib.metadata
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqjax.errors import LINES, Error, check_type, escape
from seqjax.extras import needing
from seqjax.files import PLAIN_NAME, disk_errors, path_of, write
from seqjax.report.result import Result, result_of
from seqjax.report.script_file import read_script
from seqjax.report.shown import Shown
from seqjax.report.table import Table, markdown

if TYPE_CHECKING:  # matplotlib takes long to import, and may not be installed
    from matplotlib.figure import Figure

REPORT, RESULTS = "report.md", "results.json"
"""The file for a reader, and the results for a program."""
MOST_LETTERS = 60
"""The length of a folder's name that is made of a title."""


class Report(Shown):
    """Numbers, tables and figures of an experiment, as text, as Markdown and as a folder of files.

    A report is about a script, `Report(__file__)`, or has a title, `Report(title="Does it rain?")`, as in a notebook.
    The first line of a script's docstring is the title. The command may follow it after two or more spaces. The rest of
    the docstring is the text.

    >>> import seqjax as sj
    >>> report = sj.Report(title="Does it rain?")
    >>> report.row("wet days", [3, 5, 4], 4)
    >>> report.row("share of wet days", 0.134, 0.13, tolerance=0.005)
    >>> report.row("relative bias", 0.03, high=0.05)
    >>> print(report)
    Does it rain?
    what               got                    expected      met
    wet days           4.000 (3 to 5, n = 3)  4             yes
    share of wet days  0.1340                 0.13 ± 0.005  yes
    relative bias      0.03000                at most 0.05  yes

    Args:
        file: the script, `__file__`; it is read, not run.
        folder: where `save` writes by default; None: `reports/<name of the script>`, or `reports/<words of the title>`.
        title: the title of a report without a script.
        text: the text of a report without a script, as Markdown.

    Raises:
        Error: a file that cannot be read as Python; both a script and a title or text; neither a script nor a title.
    """

    def __init__(
        self, file: str | Path | None = None, folder: str | Path | None = None, *, title: str = "", text: str = ""
    ):
        for argument, value in (("title", title), ("text", text)):
            check_type(f"Report: {argument}", value, str, "a text")
        self.command = ""
        self.sha256 = ""
        """The hash of the script's code and command, without its docstring; empty for a report without a script."""
        if file is None and title:
            self.title, self.text = " ".join(title.split()), text.strip()
            name = re.sub(r"\W+", "-", self.title.lower()).strip("-")[:MOST_LETTERS] or "report"
        elif file is not None and not (title or text):
            script = read_script(path_of("file", file))
            self.title, self.command, self.text, self.sha256 = script
            name = Path(file).stem
        else:
            raise Error(
                "a report is about a script, whose docstring has its title and its text: Report(__file__); "
                'or it is given both: Report(title="...", text="...")'
            )
        self.folder = Path("reports", name) if folder is None else path_of("folder", folder)
        self.seconds: float | None = None
        """How long the script took, which `sj.script` measures."""
        self.tables: dict[str, Table] = {}
        self.figures: dict[str, Figure] = {}
        self.texts: dict[str, str] = {}
        self._names: dict[str, bool] = {}  # of all parts, in their order: name -> whether it is folded
        self._results: list[Result] = []

    def row(
        self,
        what: str,
        got: Any,
        expected: float | str | None = None,
        *,
        tolerance: float = 0.0,
        low: float | None = None,
        high: float | None = None,
        remark: str = "",
    ) -> None:
        """Adds a result. If something is expected, it is shown beside the result, with yes or no.

        Args:
            what: what was measured, with its unit.
            got: a number or a text; or numbers, one for each seed, of which the median, the lowest and the highest are
                shown, and the median is compared.
            expected: the number or the text that the result should be; None: unknown.
            tolerance: how far a result may be from the number that is expected.
            low: the least number that is as expected; with `low` or `high`, `expected` is shown and not compared.
            high: the largest number that is as expected.
            remark: what else a reader should know, which is shown beside what is expected.

        Raises:
            Error: `got` is neither a number nor a text nor a list of numbers; the others do not fit together.
        """
        self._results.append(result_of(what, got, expected, tolerance, low, high, remark))

    def section(self, name: str, text: str, *, folded: bool = False) -> None:
        """Adds a text with a heading, which is the name, with spaces in place of underscores.

        Sections, tables and figures follow each other in the order in which they are added.

        Args:
            name: the name.
            text: the text, as Markdown.
            folded: whether a reader sees the heading alone until it is opened; so for tables and figures.
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
        """The results: what, got (the median over the seeds), lowest, highest, n, expected, low, high, remark, met."""
        columns = [name for name in Result._fields if name != "tolerance"]
        return Table([*columns, "met"], [(*(getattr(row, name) for name in columns), row.met) for row in self._results])

    def _parts(self) -> list[str | Table]:
        parts: list[str | Table] = [self.title, *([self._summary()] if self._results else [])]
        for name, table in self.tables.items():
            parts += [f"\n{name}", table]
        return [*parts, f"\nfigures: {', '.join(self.figures)}"] if self.figures else parts

    def __repr__(self) -> str:
        parts = {"results": self._results, "tables": self.tables, "figures": self.figures}
        return f"Report({self.title!r}, {', '.join(f'{name} {len(part)}' for name, part in parts.items())})"

    def to_markdown(self) -> str:
        """The report as Markdown, which refers to the files that `save` puts beside it."""
        parts = [f"# {markdown(self.title)}"]
        if self.command:
            parts.append(f"    {escape(self.command)}")
        if self.text:
            parts.append(escape(self.text, LINES))
        if self._results:
            parts.append(f"## results\n\n{self._summary().to_markdown()}".rstrip())
        for name, folded in self._names.items():
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
        """Writes `report.md`, a CSV for each table, a PNG, an SVG and a CSV for each figure, and `results.json`.

        `results.json` has the title, the command, the hash of the script (see `Report.sha256`), how long the script
        took, with what it ran, and the results by the columns of `results`. A number that is not finite is a text.
        Files with these names are replaced, other files are left alone.

        Args:
            folder: is made if it is missing; None: the report's own.

        Returns:
            The folder.

        Raises:
            Error: exit code 6: the folder cannot be written.
        """
        folder = self.folder if folder is None else path_of("folder", folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            table.write(folder / f"{name}.csv")
        for name, figure in self.figures.items():
            if (drawn := _table(figure)) is not None:
                drawn.write(folder / f"{name}.csv")
            for kind in ("png", "svg"):
                write(folder / f"{name}.{kind}", _image(figure, kind))
        write(folder / REPORT, self.to_markdown())
        # Last, so that a folder with results has all files of the report.
        write(folder / RESULTS, self._to_json())
        return folder

    def _to_json(self) -> str:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("seqjax", "jax")]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        results = self.results
        finite = lambda value: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        content = {
            "title": self.title,
            "command": self.command,
            "sha256": self.sha256,
            "seconds": self.seconds,
            "made_with": ", ".join([f"{cores} core{'s' * (cores != 1)}", *versions]),
            "results": [dict(zip(results.columns, map(finite, row), strict=True)) for row in results.rows],
        }
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def _summary(self) -> Table:
        """The results for a reader."""
        rows = [(row.what, row.shown, row.in_words, row.met) for row in self._results]
        return Table(("what", "got", "expected", "met"), rows)

    def _add(self, name: str, folded: bool) -> None:
        """Checks the name of a part, and adds it."""
        if not isinstance(name, str) or not re.fullmatch(PLAIN_NAME, name):
            raise Error(f"{name!r} cannot name files; use letters, digits, '.', '_' and '-', at most 100 of them")
        taken = {Path(REPORT).stem, Path(RESULTS).stem, *self._names}
        if name.lower() in map(str.lower, taken):
            raise Error(f"{name!r} is taken by another part of the report; choose another name")
        self._names[name] = folded


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

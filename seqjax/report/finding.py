"""`Finding`: the results of a script, read from its folder."""

import ast
import csv
import hashlib
import io
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from seqjax.errors import Error
from seqjax.files import PLAIN_NAME, open_plain
from seqjax.parse import from_json
from seqjax.report.report import REPORT, ROWS, Report
from seqjax.report.table import csv_text, plain
from seqjax.terminal.shell import argument, join

DONE = "done.json"
"""The file that says which script was run to its end, when, and on what."""
IMAGE = r"^!\[(.*?)\]\((.*?)\)$"
"""The pattern of a line of a report that shows an image."""


class Finding(NamedTuple):
    """The results of one script.

    Args:
        script: its file.
        folder: the folder of its report.
        head: the report's head when the script was run, which is its docstring as Markdown.
        began: when it was started, in seconds since 1970.
        seconds: how long it took.
        made_with: the cores and versions that it ran with.
    """

    script: Path
    folder: Path
    head: str
    began: float
    seconds: float
    made_with: str

    @property
    def report(self) -> str:
        """The report as Markdown, under the script's present docstring."""
        text = read_file(self.folder / REPORT).decode("utf-8")
        results = text.removeprefix(self.head)
        return Report(self.script).to_markdown() + results if text.startswith(self.head) else text

    @property
    def title(self) -> str:
        """The question that the script asks."""
        return plain(self.report.partition("\n")[0].removeprefix("# "))

    @property
    def command(self) -> str:
        """The command that was run."""
        return f"python {argument(self.script)} {join(flags(self.script))}".rstrip()

    @property
    def figures(self) -> list[Path]:
        """The files of the figures that the report shows. Images outside the folder are ignored."""
        names = re.findall(IMAGE, self.report, re.MULTILINE)
        return [self.folder / name for _, name in names if re.fullmatch(PLAIN_NAME, name)]

    @property
    def results(self) -> list[dict[str, str]]:
        """The results by the columns of `Report.results`; none if the report has only tables and figures."""
        file = self.folder / ROWS
        rows = csv.DictReader(io.StringIO(read_file(file).decode("utf-8"), newline="")) if file.is_file() else []
        return [{name: csv_text(cell or "") for name, cell in row.items() if name is not None} for row in rows]

    @property
    def met(self) -> list[str]:
        """Yes or no for each result that has an expectation."""
        return [row["met"] for row in self.results if row["met"]]


def found(scripts: Iterable[Path], out: Path) -> list[Finding]:
    """The findings of those scripts that were run as they are.

    Args:
        scripts: the files.
        out: the folder that holds a folder for each script.
    """
    findings = []
    for script in scripts:
        folder = out / script.stem
        try:
            done = from_json(read_file(folder / DONE))
            kept = str(done["head"]), float(done["began"]), float(done["seconds"]), str(done["made_with"])
            finding = Finding(script, folder, *kept)
            files = [*finding.figures, *folder.glob(ROWS)]
            if done["sha256"] == sha256(script) and all(map(_is_plain, files)):
                findings.append(finding)
        # A script that was never run to its end, or whose files are damaged, is run again.
        except (Error, OSError, ValueError, KeyError, TypeError):
            continue
    return findings


def flags(script: Path) -> list[str]:
    """The flags of the command in the first line of a script's docstring.

    Raises:
        Error: a script that is not Python; a command that cannot be read.
    """
    command = Report(script).command
    try:
        words = shlex.split(command)
    except ValueError as fault:
        raise Error(f"{script}: the command in its docstring, `{command}`, cannot be read: {fault}") from fault
    if command and words[:1] != ["python"]:
        raise Error(f"{script}: the command in its docstring, `{command}`, does not begin with python")
    return words[2:]


def _is_plain(file: Path) -> bool:
    """Whether there is a file that is no link."""
    return file.is_file() and not file.is_symlink()


def read_file(file: Path) -> bytes:
    """The bytes of a file of a report; an `Error` for a link, which might lead out of the folder."""
    with open_plain(file, os.O_RDONLY) as opened:
        return opened.read()


def sha256(script: Path) -> str:
    """The hash of the code of a script and of its flags; other words of its docstring do not change it."""
    words = shlex.join(flags(script))
    module = ast.parse(script.read_bytes())
    if ast.get_docstring(module) is not None:
        del module.body[0]
    return hashlib.sha256(f"{ast.dump(module)} {words}".encode()).hexdigest()

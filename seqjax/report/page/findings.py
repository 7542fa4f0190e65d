"""What several scripts found, as one Markdown file or as one HTML page that needs no other file."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from seqjax.files import disk_errors, replace, write
from seqjax.report.finding import IMAGE, Finding, read_file
from seqjax.report.page.markdown import html_of
from seqjax.report.page.template import MARK, Section, page, text
from seqjax.report.table import Table, markdown


def order(finding: Finding) -> tuple[bool, int, int, str]:
    """The key by which findings are sorted: by the first section that the title names, as in "... (8.5, 8.6)"."""
    section = re.search(r"\((\d+)\.(\d+)", finding.title)
    chapter, number = map(int, section.groups()) if section else (0, 0)
    return not section, chapter, number, finding.title


def summary(findings: Sequence[Finding]) -> Table:
    """All results, one for each row: question, command, what, got, expected, met, minutes."""
    rows = []
    for finding in findings:
        results = [(row["what"], row["shown"], row["expected"], row["met"]) for row in finding.results]
        head, minutes = (finding.title, finding.command), f"{finding.seconds / 60:.1f}"
        # What is true of the whole script is in its first row only.
        for result in results or [("tables and figures", "", "", "")]:
            rows.append((*head, *result, minutes))
            head, minutes = ("", ""), ""
    return Table(("question", "command", "what", "got", "expected", "met", "minutes"), rows)


MARK_MARKDOWN = b"<!-- made by `seqjax reproduce` -->"
"""What each file of Markdown has after its title, so that it replaces no other file."""


def write_markdown(findings: Sequence[Finding], file: Path, title: str, missing: Sequence[str] = ()) -> None:
    """All reports as one Markdown file, with their figures in a folder of the same name beside it.

    Args:
        findings: in the order of the page.
        file: is written; `docs/all.md` has its figures in `docs/all`.
        title: of the page.
        missing: the names of the scripts that were not run.

    Raises:
        Error: exit code 6: the files cannot be written.
    """
    folder = file.with_suffix("")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {markdown(title)}", MARK_MARKDOWN.decode(), markdown(conclusion(findings, missing))]
    for finding in findings:
        for image in finding.figures:
            write(folder / f"{finding.script.stem}-{image.name}", read_file(image))
        parts.append(_section(finding, quote(f"{folder.name}/{finding.script.stem}-", errors="surrogateescape")))
    replace(file, ("\n\n".join(parts) + "\n").encode(), MARK_MARKDOWN)


def write_html(findings: Sequence[Finding], file: Path, title: str, missing: Sequence[str] = ()) -> None:
    """All reports as one HTML page that contains its figures and fits a phone; see `write_markdown`."""
    sections = []
    for finding in findings:
        # The template writes the heading.
        body = html_of(
            _section(finding, "").partition("\n")[2], {image.name: read_file(image) for image in finding.figures}
        )
        sections.append(Section(finding.script.stem, finding.title, body))
    replace(file, page(title, f"<p>{text(conclusion(findings, missing))}</p>", sections), MARK)


def conclusion(findings: Sequence[Finding], missing: Sequence[str] = ()) -> str:
    """How many results are as expected, how long the scripts took on which machine, and which scripts were not run."""
    met = [met for finding in findings for met in finding.met]
    # Minutes by the clock: the length of the union of the intervals in which scripts ran, some of them side by side.
    seconds = end = 0.0
    for finding in sorted(findings, key=lambda finding: finding.began):
        began, ended = max(end, finding.began), finding.began + finding.seconds
        seconds += max(0.0, ended - began)
        end = max(end, ended)
    machine = "; ".join(dict.fromkeys(finding.made_with for finding in findings))
    text = (
        f"{met.count('yes')} of {len(met)} results are as expected (with several seeds, the median counts). "
        f"The scripts took {seconds / 60:.0f} minutes on {machine}."
    )
    return f"{text} Not run: {', '.join(missing)}." if missing else text


def _section(finding: Finding, prefix: str) -> str:
    """A report under a heading of the second level, without links to files; `prefix` goes before names of figures.

    In place of an image that is not in the folder of the report, there is a sentence: no page shows another file.
    """
    lines, names = [], {figure.name for figure in finding.figures}

    def image(match: re.Match[str]) -> str:
        if match[2] in names:
            return f"![{match[1]}]({prefix}{match[2]})"
        return f"Left out: the image {markdown(match[2])}, which is not in the folder of the report."

    for line in finding.report.splitlines():
        if line.startswith(("In full: ", "Also: ")):
            continue
        line = f"#{line}" if line.startswith("#") else line
        lines.append(re.sub(IMAGE, image, line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))

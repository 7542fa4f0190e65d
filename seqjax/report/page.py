"""What experiments found, as Markdown and as one HTML page that needs no other file."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

from seqjax.files import disk_errors, write
from seqjax.report.report import format_result
from seqjax.report.reproduce import Finding
from seqjax.report.table import Table

STYLE = """
body { font: 17px/1.5 Georgia, serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2, h3, nav, table { font-family: system-ui, sans-serif } h2 { margin-top: 3rem; border-top: 1px solid #ccc }
img { max-width: 100%; height: auto } .wide { overflow-x: auto } pre { overflow-x: auto; background: #f6f6f6 }
table { border-collapse: collapse; font-size: .8rem } td, th { padding: .2rem .6rem; border-bottom: 1px solid #ddd }
th { text-align: left } tr:has(td.no) { background: #fdecea }
@media (max-width: 30rem) { table { font-size: .7rem } td, th { padding: .2rem .3rem } }
"""


def place(title: str) -> tuple:
    """Where a report stands on a page: by the first section that its title names, as in "... (8.5, 8.6)"."""
    section = re.search(r"\((\d+)\.(\d+)", title)
    return (not section, *(map(int, section.groups()) if section else ()), title)


def summary(findings: Sequence[Finding]) -> Table:
    """A row a result: question, command, what, got, expected, met, minutes."""
    columns = ("question", "command", "what", "got", "expected", "met", "minutes")
    found = []
    for finding in findings:
        head = (finding.title, finding.command)
        minutes = f"{finding.seconds / 60:.1f}"
        rows = finding.rows or [
            dict.fromkeys(("got", "low", "high", "n", "expected", "met"), "") | {"what": "tables and figures"}
        ]
        for n, row in enumerate(rows):
            first = (*head, minutes) if n == 0 else ("", "", "")
            found.append((*first[:2], row["what"], _got(row), row["expected"], row["met"], first[2]))
    return Table(columns, found)


def write_markdown(findings: Sequence[Finding], file: Path, title: str, missing: Sequence[str] = ()) -> None:
    """All reports as one Markdown file, its figures in a folder of the file's name beside it."""
    figures = file.with_suffix("")
    with disk_errors(figures):
        figures.mkdir(parents=True, exist_ok=True)
    parts = [f"# {title}", counted(findings, missing)]
    for finding in findings:
        for image in finding.figures:
            write(figures / f"{finding.script.stem}-{image.name}", image.read_bytes())
        parts.append(_section(finding, lambda name, f=finding: f"{figures.name}/{f.script.stem}-{name}"))
    write(file, "\n\n".join(parts) + "\n")


def write_html(findings: Sequence[Finding], file: Path, title: str, missing: Sequence[str] = ()) -> None:
    """All reports as one HTML page with the figures in it, which a phone can show."""
    from markdown_it import MarkdownIt

    render = MarkdownIt("commonmark", {"html": False}).enable("table").render
    data = lambda file: f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    links, sections = [], []
    for finding in findings:
        anchor = finding.script.stem
        links.append(f'<li><a href="#{anchor}">{html.escape(finding.title)}</a></li>')
        images = {image.name: data(image) for image in finding.figures}
        text = render(_section(finding, lambda name: name)).replace("&lt;br&gt;", "<br>")  # the ends of lines in cells
        for name, source in images.items():
            text = text.replace(f'src="{name}"', f'src="{source}"')
        sections.append(f'<section id="{anchor}">\n{text}</section>')
    body = "\n".join(sections).replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    body = body.replace("<td>no</td>\n</tr>", '<td class="no">no</td>\n</tr>')  # met is the last column
    write(
        file,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(counted(findings, missing))}</p>\n"
        f"<nav><ol>{''.join(links)}</ol></nav>\n{body}\n</body></html>\n",
    )


def counted(findings: Sequence[Finding], missing: Sequence[str] = ()) -> str:
    """How many results are as expected, how long the scripts took, on what, and which of them found nothing."""
    met = [row["met"] for finding in findings for row in finding.rows if row["met"]]
    seconds, end = 0.0, 0.0  # by the clock, in which some run side by side
    for finding in sorted(findings, key=lambda finding: finding.began):
        seconds += max(0.0, finding.began + finding.seconds - max(end, finding.began))
        end = max(end, finding.began + finding.seconds)
    machine = "; ".join(dict.fromkeys(finding.made_with for finding in findings))
    text = (
        f"{met.count('yes')} of {len(met)} results lie where they are expected, of several seeds their median. "
        f"All took {seconds / 60:.0f} minutes on {machine}."
    )
    return f"{text} Not run: {', '.join(missing)}." if missing else text


def _section(finding, place):
    """A report under a heading of the second level, without links to files; `place` says where a figure lies."""
    lines = []
    for line in finding.report.splitlines():
        if line.startswith(("In full: ", "Also: ")):
            continue
        line = f"#{line}" if line.startswith("#") else line
        lines.append(re.sub(r"^!\[(.*?)\]\((.*?)\)$", lambda m: f"![{m[1]}]({place(m[2])})", line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _got(row):
    """A result as its report shows it."""
    got, low, high, n = (_number(row[name]) for name in ("got", "low", "high", "n"))
    return format_result(got, low, high, n, row["expected"])


def _number(text):
    """What a cell of a CSV file stands for."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text or None

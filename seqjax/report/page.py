"""What several scripts found, as one Markdown file or as one HTML page that needs no other file."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

from seqjax.files import disk_errors, write
from seqjax.report.finding import Finding
from seqjax.report.table import Table

STYLE = """
body { font: 17px/1.5 Georgia, serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2, h3, nav, table { font-family: system-ui, sans-serif } h2 { margin-top: 3rem; border-top: 1px solid #ccc }
img { max-width: 100%; height: auto } .wide { overflow-x: auto } pre { overflow-x: auto; background: #f6f6f6 }
table { border-collapse: collapse; font-size: .8rem } td, th { padding: .2rem .6rem; border-bottom: 1px solid #ddd }
th { text-align: left } tr:has(td.no) { background: #fdecea }
@media (max-width: 30rem) { table { font-size: .7rem } td, th { padding: .2rem .3rem } }
"""


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
    parts = [f"# {title}", conclusion(findings, missing)]
    for finding in findings:
        for image in finding.figures:
            write(folder / f"{finding.script.stem}-{image.name}", image.read_bytes())
        parts.append(_section(finding, f"{folder.name}/{finding.script.stem}-"))
    write(file, "\n\n".join(parts) + "\n")


def write_html(findings: Sequence[Finding], file: Path, title: str, missing: Sequence[str] = ()) -> None:
    """All reports as one HTML page that contains its figures and fits a phone; see `write_markdown`."""
    from markdown_it import MarkdownIt

    render = MarkdownIt("commonmark", {"html": False}).enable("table").render
    links, sections = [], []
    for finding in findings:
        anchor = finding.script.stem
        links.append(f'<li><a href="#{anchor}">{html.escape(finding.title)}</a></li>')
        # HTML is switched off in the Markdown; <br> alone is let through, which ends a line in a cell of a table.
        text = render(_section(finding, "")).replace("&lt;br&gt;", "<br>")
        for image in finding.figures:
            data = base64.b64encode(image.read_bytes()).decode()
            text = text.replace(f'src="{image.name}"', f'src="data:image/png;base64,{data}"')
        sections.append(f'<section id="{anchor}">\n{text}</section>')
    body = "\n".join(sections).replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    body = re.sub("<table>.*?</table>", _mark_unmet, body, flags=re.S)
    write(
        file,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(conclusion(findings, missing))}</p>\n"
        f"<nav><ol>{''.join(links)}</ol></nav>\n{body}\n</body></html>\n",
    )


def _mark_unmet(table: re.Match[str]) -> str:
    """A table of HTML. If it is one of results, whose last column is "met", each "no" in this column gets a colour."""
    text = table[0]
    if "<th>met</th>\n</tr>" not in text:
        return text
    return text.replace("<td>no</td>\n</tr>", '<td class="no">no</td>\n</tr>')


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
    """A report under a heading of the second level, without links to files; `prefix` goes before names of figures."""
    lines = []
    for line in finding.report.splitlines():
        if line.startswith(("In full: ", "Also: ")):
            continue
        line = f"#{line}" if line.startswith("#") else line
        lines.append(re.sub(r"^!\[(.*?)\]\((.*?)\)$", lambda m: f"![{m[1]}]({prefix}{m[2]})", line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))

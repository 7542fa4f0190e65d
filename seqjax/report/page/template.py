"""The template of all pages, and the parts of HTML that they share: headings, tables and images."""

import base64
import hashlib
import html
import importlib.resources
import json
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from seqjax.errors import escape
from seqjax.report.table import Table
from seqjax.report.table_cell import is_number

FILES = importlib.resources.files("seqjax.report") / "page"
"""The folder of the style sheet and of the scripts."""
MARK = b'name="generator" content="seqjax"'
"""A mark near the start of each page, so that a page replaces only a page, and no other file."""
NUMBER = ' class="number"'
"""The class of a cell that holds a number, and of the heading above it."""


class Section(NamedTuple):
    """A section of a page.

    Args:
        anchor: its id, different for each section.
        heading: its heading, a plain text.
        body: its content, HTML.
        folded: whether the body is hidden until the reader opens it.
    """

    anchor: str
    heading: str
    body: str
    folded: bool = False


def page(
    title: str, lead: str, sections: Sequence[Section], scripts: Sequence[str] = (), data: dict[str, Any] | None = None
) -> bytes:
    """A page as one HTML file in UTF-8, with a table of contents.

    The Content-Security-Policy of the page allows its own style sheet and scripts, by their hashes, and images that the
    page contains. A browser runs no other script and loads nothing else, even if some text was not escaped.

    Args:
        title: the title, a plain text.
        lead: the text below it, HTML.
        sections: in the order of the page.
        scripts: the names of the scripts beside this file that the page runs.
        data: what the scripts read, as JSON.
    """
    style = _read("style.css")
    script = "\n".join(map(_read, scripts))
    policy = f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    links = "".join(f'<li><a href="#{text(each.anchor)}">{text(each.heading)}</a></li>' for each in sections)
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>',
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">",
        f'<meta {MARK.decode()}><meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="color-scheme" content="light dark"><style>{style}</style></head>',
        f"<body><main><h1>{text(title)}</h1>\n{lead}\n",
        f'<nav aria-label="Contents"><ol>{links}</ol></nav>',
    ]
    if any(each.folded for each in sections):  # a long page, which begins with what is not folded
        parts[-1] = f"<details><summary>Contents</summary>{parts[-1]}</details>"
    for each in sections:
        anchor = text(each.anchor)
        heading = f'<h2 id="{anchor}-heading">{text(each.heading)}</h2>'
        content = f"{heading}\n{each.body}"
        if each.folded:
            content = f"<details><summary>{heading}</summary>\n{each.body}\n</details>"
        parts.append(f'<section id="{anchor}" aria-labelledby="{anchor}-heading">\n{content}\n</section>')
    parts.append("</main>")
    parts += [] if data is None else [f'<script type="application/json" id="data">{to_json(data)}</script>']
    parts += [f"<script>{script}</script>"] if scripts else []
    # A lone surrogate, which UTF-8 cannot encode, is shown as an escape of Python.
    return "\n".join([*parts, "</body></html>\n"]).encode("utf-8", "backslashreplace")


def text(value: object) -> str:
    """A text of which no character has a meaning in HTML. Control characters are shown as escapes of Python."""
    return html.escape(escape(str(value), keep="\n\t"))


def to_json(data: Any) -> str:
    """JSON that may stand in a script of HTML: no text in it can end the script. NaN and infinities become null."""
    plain = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def table(content: Table, caption: str, marked: Collection[tuple[int, str]] = ()) -> str:
    """A table, in a box that scrolls sideways where it is wider than the screen.

    The first cell of each row is its heading. A number, or the mean of an interval, has all its digits in
    `data-value`, by which `tables.js` sorts.

    Args:
        content: the table.
        caption: what it shows, a plain text.
        marked: (index of the row, name of the column) of the cells that are marked.
    """
    names = content.shown_columns
    values = {name: content[name] for name in names}
    head = "".join(f'<th scope="col"{NUMBER * any(map(is_number, values[name]))}>{text(name)}</th>' for name in names)
    rows = []
    for n, (first, *others) in enumerate(content.shown_rows()):
        cells = [f'<th scope="row">{text(first)}</th>']
        cells += [
            _cell(values[name][n], shown, (n, name) in marked) for name, shown in zip(names[1:], others, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return scrolling(f"<table>{body}</table>", caption)


def scrolling(content: str, name: str) -> str:
    """A box that scrolls sideways, with the keyboard too, where its content is wider than the screen.

    Args:
        content: HTML.
        name: what it is, for a screen reader, a plain text.
    """
    return f'<div class="wide" role="region" tabindex="0" aria-label="{text(name)}">{content}</div>'


def image_source(png: bytes) -> str:
    """The address of an image that the page itself contains."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _cell(value: Any, shown: str, is_marked: bool) -> str:
    inner = text(shown)
    inner = f"<mark>{inner}</mark>" if is_marked else inner
    return f'<td{NUMBER} data-value="{value!r}">{inner}</td>' if is_number(value) else f"<td>{inner}</td>"


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _read(name: str) -> str:
    return (FILES / name).read_text("utf-8")


def _hash(content: str) -> str:
    """The hash by which a Content-Security-Policy allows a script or a style sheet."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"

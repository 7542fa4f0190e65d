"""HTML that a notebook shows for a result: escaped, in the colours of the notebook, and without scripts."""

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seqjax.errors import escape

MOST_ROWS = 60
"""A longer table shows this many rows, half of them from its end."""
LINE_END = "\n"
WIDTH, HEIGHT = 300, 90
"""The size of a curve in pixels."""
CELL = "padding: 2px 10px; vertical-align: top; text-align:"
SMALL = 'style="opacity: 0.7; font-size: 90%"'


def show(*parts: Callable[[], str]) -> str:
    """The HTML of an object, from functions that each return a part of it.

    An error in a part, such as a figure of values that are not finite, is shown in place of this part, so that the user
    sees the rest of the object and what is wrong with it.
    """
    return f'<div class="seqjax">{"".join(map(_part_or_fault, parts))}</div>'


def text(words: str, tag: str = "p") -> str:
    """A text as an element, such as `p` or `pre`; lines that are indented or aligned belong in `pre`."""
    return f"<{tag}>{_escape(words)}</{tag}>"


def note(words: str) -> str:
    """A text that is less important than what it explains."""
    return f"<p {SMALL}>{_escape(words)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """A table of texts.

    Args:
        columns: the names of the columns; none: the table has no head.
        rows: the texts of the cells.
        right: for each column whether it is aligned to the right, as numbers are; None: no column is.
    """
    half = MOST_ROWS // 2
    parts = [rows] if len(rows) <= MOST_ROWS else [rows[:half], rows[-half:]]
    between = f'<tr><td colspan="{len(rows[0]) if rows else 0}">… {len(rows) - MOST_ROWS:,} more rows …</td></tr>'
    body = between.join("".join(_row("td", row, right) for row in part) for part in parts)
    head = f"<thead>{_row('th', columns, right)}</thead>" if columns else ""
    inner = f'<table style="border-collapse: collapse">{head}<tbody>{body}</tbody></table>'
    return f'<div style="overflow-x: auto">{inner}</div>'


def details(summary: str, inner: str) -> str:
    """HTML that is shown after a click on its summary, a text."""
    return f'<details><summary style="cursor: pointer">{_escape(summary)}</summary>{inner}</details>'


def image(figure: Any, description: str) -> str:
    """A figure of matplotlib; the description is for those who cannot see it."""
    # Imported here, since matplotlib takes long to import, and tables do not need it.
    from seqjax.report.figure import SCREEN_DPI, image_bytes, screen_width

    data = base64.b64encode(image_bytes(figure, "png", SCREEN_DPI)).decode()
    return (
        f'<img width="{screen_width(figure)}" style="max-width: 100%; height: auto" alt="{_escape(description)}" '
        f'src="data:image/png;base64,{data}">'
    )


def curves(lines: Mapping[str, Sequence[float]]) -> str:
    """Small curves on one linear scale by name, as SVG: the first one is solid, the others are dashed.

    Args:
        lines: name -> values at equal distances. A value that is not finite is left out.

    Returns:
        Nothing if fewer than two values of a curve are known.
    """
    points = {name: _finite(values) for name, values in lines.items()}
    points = {name: pairs for name, pairs in points.items() if len(pairs) > 1}
    if not points:
        return ""
    known = [value for pairs in points.values() for _, value in pairs]
    low, high = min(known), max(known)
    most = max(x for pairs in points.values() for x, _ in pairs)
    shapes = []
    for n, (name, pairs) in enumerate(points.items()):
        places = " ".join(
            f"{2 + (WIDTH - 4) * x / most:.1f},{2 + (HEIGHT - 4) * (high - y) / ((high - low) or 1):.1f}"
            for x, y in pairs
        )
        dashes = ' stroke-dasharray="5 4" opacity="0.7"' if n else ""
        shapes.append(f'<polyline points="{places}"{dashes}><title>{_escape(name)}</title></polyline>')
    kinds = [f"{'dashed' if n else 'solid'}: {name}" for n, name in enumerate(points)]
    caption = f"{'; '.join(kinds)}; from {low:.4g} to {high:.4g}"
    return (
        f'<svg role="img" aria-label="{_escape(caption)}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
        f'stroke="currentColor" stroke-width="1.5">{"".join(shapes)}</svg>{note(caption)}'
    )


def _part_or_fault(part: Callable[[], str]) -> str:
    try:
        return part()
    except Exception as fault:  # whatever numpy or matplotlib raise for odd values
        return note(f"This part cannot be shown: {type(fault).__name__}: {fault}")


def _row(tag: str, cells: Sequence[str], right: Sequence[bool] | None) -> str:
    sides = ["right" if is_right else "left" for is_right in right or [False] * len(cells)]
    # A number is not broken at its minus sign.
    look = {"left": CELL, "right": f"white-space: nowrap; {CELL}"}
    inner = "".join(
        f'<{tag} style="{look[side]} {side}">{_escape(cell).replace(LINE_END, "<br>")}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{inner}</tr>"


def _escape(words: str) -> str:
    return html.escape(escape(words, keep="\n"))


def _finite(values: Sequence[float]) -> list[tuple[int, float]]:
    """The finite values with their indices, thinned to as many as a curve has room for; the last one is kept."""
    points = [(x, float(y)) for x, y in enumerate(values) if math.isfinite(y)]
    every = -(-len(points) // WIDTH)
    return points[:-1][:: every or 1] + points[-1:]

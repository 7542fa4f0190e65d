"""The texts of a figure: its title and labels, and the names of its lines in a legend or at the ends of the lines."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.lines import Line2D

from seqjax.report.figure import Figure

MOST_ENTRIES = 4
"""A legend has at most this many entries."""
MOST_LINES = 5
"""If the names of a legend take more lines than this, numbers stand for them."""
HANDLE = 7
"""The width of the line beside a name in a legend, in characters."""
LINE = 1.25 / 72
"""The height of a line of text in inches, for each point of the size of its font."""


def characters(inches: float, size: float) -> int:
    """How many characters fit into a width: one is about 0.55 times as wide as its font is high."""
    return max(8, int(inches * 72 / (0.55 * size)))


def fill(text: str, width: int) -> str:
    """A text in lines of at most `width` characters. A formula stays in one line."""
    return text if is_math_text(text) else "\n".join(textwrap.fill(line, width) for line in text.split("\n"))


def plain(text: str) -> str:
    """A text from data, in which a dollar sign does not begin a formula."""
    return text.replace("$", r"\$")


def list_names(figure: Figure, what: str, names: Sequence[str]) -> list[str]:
    """Puts names that have no room into the caption, and returns the numbers that stand for them."""
    listed = "; ".join(f"{n}: {name}" for n, name in enumerate(names, 1))
    figure.add_note(f"{what}: {listed}".replace(r"\$", "$"))
    return [str(n) for n in range(1, len(names) + 1)]


def name_lines(figure: Figure, axes: Axes, entries: Sequence[tuple[Line2D, str]], by_style: bool = False) -> None:
    """Names the lines of a panel: in a legend above it, or if there are many, at the ends of the lines.

    If the names have no room, numbers stand for them, and the caption has the names.

    Args:
        figure: the figure.
        axes: the panel, whose data and scales are complete.
        entries: each line, and its name.
        by_style: whether the entries are no lines of the panel, but stand for the colours and styles of its lines.
    """
    names = [name for _, name in entries]
    size, width = matplotlib.rcParams["legend.fontsize"], figure.get_figwidth()
    if by_style or len(entries) <= MOST_ENTRIES:
        fitting = characters(width - 0.8, size)
        texts = [fill(name, fitting - HANDLE) for name in names]
        if sum(text.count("\n") + 1 for text in texts) > max(len(texts), MOST_LINES):
            texts = list_names(figure, "Lines", names)
        columns = len(texts)
        # The names follow each other from top to bottom, and then from left to right.
        while columns > 1 and sum(map(max, _columns([len(text) + HANDLE for text in texts], columns))) > fitting:
            columns -= 1
        # On the right, since the common power of ten of the y axis is on the left.
        look: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderpad": 0.2, "ncols": columns}
        axes.legend([handle for handle, _ in entries], texts, **look)
        return
    figure.draw_without_rendering()  # for the height of the panel
    room = int(axes.get_window_extent().height / figure.dpi / (LINE * size))
    texts = [fill(name, characters(0.3 * width, size)) for name in names]
    if sum(text.count("\n") + 1 for text in texts) > room:
        texts = list_names(figure, "Lines", names)
    # Of more lines than the panel has rows of text, the caption alone has the names, in the order of the lines.
    if len(texts) <= room:
        _name_ends(axes, [handle for handle, _ in entries], texts, 1 / room)


def _columns(widths: Sequence[int], columns: int) -> list[Sequence[int]]:
    """The widths of the entries in each column of a legend, of which the first ones may have one entry more."""
    ends = [n * len(widths) // columns for n in range(columns, -1, -1)]
    return [widths[len(widths) - end : len(widths) - stop] for end, stop in itertools.pairwise(ends)]


def _name_ends(axes: Axes, lines: Sequence[Line2D], texts: Sequence[str], height: float) -> None:
    """Writes the names of lines on the right of a panel, each as near to the end of its line as the others allow.

    Args:
        axes: the panel.
        lines: the lines.
        texts: the name of each.
        height: the height of a line of text, as a part of the panel's.
    """
    axes.autoscale_view()
    ends = []
    for line, text in zip(lines, texts, strict=True):
        points = [point for point in np.asarray(line.get_xydata()).tolist() if all(map(math.isfinite, point))]
        end = points[-1] if points else None
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(points[-1])) if points else (1.0, 0.0)
        ends.append((y, (text.count("\n") + 1) * height, end, line, text, x))
    # Of ends at one height, the left one has the upper name, so that lines to the names do not cross.
    ends.sort(key=lambda each: (round(each[0], 2), -each[-1]))
    middles: list[float] = []
    for n, (y, size, *_) in enumerate(ends):
        middles.append(max(y, middles[-1] + (ends[n - 1][1] + size) / 2) if n else max(y, 0.0))
    above = 1.0
    for n in reversed(range(len(ends))):
        middles[n] = min(middles[n], above - ends[n][1] / 2)
        above = middles[n] - ends[n][1] / 2
    for middle, (_, _, end, line, text, _) in zip(middles, ends, strict=True):
        look = {"relpos": (0, 0.5), "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0, "arrowstyle": "-"}
        # Beside a single point, a line of its colour would look like data.
        is_point = line.get_linestyle() == "None"
        look |= {"color": "0.6", "linestyle": ":"} if is_point else {"color": line.get_color()}
        axes.annotate(
            text,
            (1.0, middle) if end is None else end,
            (1.05, middle),
            xycoords="axes fraction" if end is None else "data",
            textcoords="axes fraction",
            va="center",
            size=matplotlib.rcParams["legend.fontsize"],
            arrowprops=None if end is None else look,
            annotation_clip=False,
        )

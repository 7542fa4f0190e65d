"""Texts in lines that fit into a figure: its title, the labels of its axes, the names of rows and columns."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.ticker import EngFormatter

from seqjax.report.figure import Figure
from seqjax.report.plot_style import is_for_paper
from seqjax.report.ticks import PlainNumbers


def fit_labels(figure: Figure) -> None:
    """Breaks the labels of axes into lines that are no longer than their axis, and makes an offset part of the ticks.

    More lines along x make the figure higher. An offset such as 1e6 would overlap the legend or a label.
    """
    # Labels along y come first, since more lines of them leave less room for the labels along x.
    for name, side in (("yaxis", "height"), ("xaxis", "width")):
        figure.draw_without_rendering()
        for axes in figure.axes:
            axis = getattr(axes, name)
            if axis.get_offset_text().get_text():
                is_large = max(map(abs, axis.get_view_interval())) > 1
                axis.set_major_formatter(EngFormatter() if is_large else PlainNumbers())
            before = axis.label.get_window_extent()
            length, room = getattr(before, side), getattr(axes.get_window_extent(), side)
            if length > room:
                lines = axis.label.get_text().split("\n")
                fitting = max(10, int(max(map(len, lines)) * room / length))
                axis.label.set_text("\n".join(textwrap.fill(line, fitting) for line in lines))
                if axis is axes.xaxis:
                    added = axis.label.get_window_extent().height - before.height
                    figure.set_figheight(figure.get_figheight() + added / figure.dpi)


def fit_names(figure: Figure, names: Sequence[Any], what: str, width: float | None) -> list[str]:
    """The names of rows or columns as texts beside the cells of a matrix.

    In a style for papers, names have one or two lines that take at most a third of the width of the figure. If a name
    is longer, or a cell is narrower than the slanted lines of a name, the rows or columns are numbered, and a note has
    the names.

    Args:
        figure: the figure.
        names: the names.
        what: what they name, for the note.
        width: the width of a cell in inches, if the names have to fit into it; None: they do not.
    """
    texts = [str(name) for name in names]
    if not is_for_paper():
        return texts
    size = matplotlib.rcParams["ytick.labelsize"]
    lines = [textwrap.wrap(text, characters_in(figure.get_figwidth() / 3, size)) for text in texts]
    most = max(map(len, lines))
    if most <= 2 and (width is None or 1.7 * most * size / 72 <= width):
        return ["\n".join(each) for each in lines]
    note = f"{what}: " + "; ".join(f"{n}: {text}" for n, text in enumerate(texts, 1))
    if note not in figure.notes:
        figure.notes.append(note)
    return [str(n + 1) for n in range(len(texts))]


def wrap_title(title: str, width: int) -> str:
    """A title in lines of at most `width` characters, which end at a " · " where possible."""
    lines: list[str] = []
    for part in title.split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width) or [""]
    return "\n".join(lines)


def characters_in(width: float, font_size: float) -> int:
    """How many characters fit into a width in inches: one is about 0.58 times as wide as high."""
    return max(10, int(width * 72 / (0.58 * font_size)))

"""The parts that figures share: panels with a title, legends above them, and the text that is left to the caption."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from seqjax.report.figure import Figure
from seqjax.report.metric_labels import DURING
from seqjax.report.plot_style import DASHES, is_for_paper
from seqjax.report.ticks import PlainNumbers


def new_figure(
    x_label: str, y_label: str, title: str, panels: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel, or with several below each other that have the same x and y labels.

    In a style for papers, the title is a note for the caption, and so are the words `DURING` behind a label.
    """
    settings: Any = matplotlib.rcParams
    width, height = settings["figure.figsize"]
    figure = Figure(figsize=(width, height * (1 + 0.45 * (panels - 1))), layout="constrained")
    if title:
        figure.notes.append(title.replace(r"\$", "$").replace(" · ", "; "))
    if is_for_paper():
        x_label, y_label = (_without_words(figure, label) for label in (x_label, y_label))
        title = ""
    every = figure.subplots(panels, 1, sharex=True, sharey=sharey, squeeze=False)[:, 0].tolist()
    for axes in every:
        axes.set(ylabel=y_label)
        # Ticks are made when a figure is drawn, which may be after the end of the style.
        sizes = {"width": "xtick.major.width", "length": "xtick.major.size", "labelsize": "xtick.labelsize"}
        axes.tick_params(**{key: settings[name] for key, name in sizes.items()})
    every[-1].set(xlabel=x_label)
    if title:
        figure.suptitle(_wrapped(title, _fitting(width - 0.2, matplotlib.rcParams["font.size"])), fontsize="medium")
    return figure, every


def add_legend(figure: Figure, axes: Axes, groups: Sequence[Sequence[tuple[Line2D, str]]], caption: str = "") -> None:
    """Puts the names of the lines above the axes, and makes the figure higher by their height.

    There are as few rows as fit into the width of the figure. Each group has columns of its own. The lines of the
    caption are notes of the figure; they also stand above the names, except in a style for papers.
    """
    for line in filter(None, caption.split("\n")):
        add_note(figure, line)
    if is_for_paper():
        fit_labels(figure)
        size, caption = matplotlib.rcParams["legend.fontsize"], ""
        # Beside a legend there is a margin of half the size of its font.
        width = figure.get_figwidth() - axes.get_window_extent().x0 / figure.dpi - size / 72
    else:
        width, size = figure.get_figwidth() - 8 * matplotlib.rcParams["font.size"] / 72, 10.0
    fitting = _fitting(width, size)
    legend = _legend(axes, groups, caption, width, fitting)
    # Letters may be wider than most.
    while (found := legend.get_window_extent().width / figure.dpi) > width and fitting > 10:
        fitting = max(10, int(fitting * width / found))
        legend = _legend(axes, groups, caption, width, fitting)
    figure.set_figheight(figure.get_figheight() + legend.get_window_extent().height / figure.dpi)


def _legend(
    axes: Axes, groups: Sequence[Sequence[tuple[Line2D, str]]], caption: str, width: float, fitting: int
) -> Legend:
    """A legend whose lines have `fitting` characters at most, in as few rows as fit into a width in inches."""
    caption = "\n".join(textwrap.fill(line, fitting) for line in caption.split("\n"))
    groups = [[(handle, textwrap.fill(text, fitting - 6)) for handle, text in group] for group in groups if group]
    blank = Line2D([], [], linestyle="none"), ""
    longest = max(map(len, groups), default=0)
    for rows in range(1, longest + 1 if groups else 2):
        columns = sum(math.ceil(len(group) / rows) for group in groups)
        padded = [[*group, *[blank] * (-len(group) % rows)] for group in groups] if len(groups) > 1 else groups
        flat = [entry for group in padded for entry in group]
        legend = axes.legend(
            [handle for handle, _ in flat],
            [text for _, text in flat],
            title=caption,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=max(1, columns),
            frameon=False,
            alignment="left",
            borderpad=0.2,
        )
        if legend.get_window_extent().width <= width * axes.figure.dpi:
            break
    return legend


def add_note(figure: Figure, text: str) -> None:
    """Adds a sentence to the notes of a figure, without its full stop."""
    figure.notes.append(text[:1].upper() + text[1:])


def fit_labels(figure: Figure) -> None:
    """Breaks the labels of axes into lines that are no longer than their axis, and makes an offset part of the ticks.

    More lines along x make the figure higher. An offset such as 1e6 would overlap the legend or a label.
    """
    # Labels along y come first, since more lines of them leave less room for those along x.
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


def fit_names(figure: Figure, names: Sequence[Any], what: str) -> list[str]:
    """The names of rows or columns as texts beside the cells of a matrix.

    In a style for papers, names have one or two lines that take at most a third of the width of the figure. If a name
    is longer, the rows or columns are numbered, and a note has the names.
    """
    texts = [str(name) for name in names]
    if not is_for_paper():
        return texts
    fitting = _fitting(figure.get_figwidth() / 3, matplotlib.rcParams["ytick.labelsize"])
    lines = [textwrap.wrap(text, fitting) for text in texts]
    if max(map(len, lines)) <= 2:
        return ["\n".join(each) for each in lines]
    note = f"{what}: " + "; ".join(f"({n}) {text}" for n, text in enumerate(texts, 1))
    if note not in figure.notes:
        figure.notes.append(note)
    return [f"({n + 1})" for n in range(len(texts))]


def line_entries(axes: Axes) -> list[list[tuple[Line2D, str]]]:
    """The entries of a legend: the lines of the axes with their names."""
    handles, labels = axes.get_legend_handles_labels()
    return [[(cast(Line2D, handle), label) for handle, label in zip(handles, labels, strict=True)]]


def factor_entries(first: Sequence[str], second: Sequence[str]) -> list[list[tuple[Line2D, str]]]:
    """The entries of two factors: a colour for each value of the first, a line style for each value of the second."""
    colours = colours_of_style()
    return [
        [
            (Line2D([], [], color=colours[n % len(colours)]), plain(value))
            for n, value in enumerate(dict.fromkeys(first))
        ],
        [
            (Line2D([], [], color="gray", linestyle=cast(Any, DASHES[n])), plain(v))
            for n, v in enumerate(dict.fromkeys(second))
        ],
    ]


def colours_of_style() -> list[str]:
    """The colours of the current style, each once."""
    return list(dict.fromkeys(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]))


def plain(text: str) -> str:
    """A text from data, in which a dollar sign does not begin a formula."""
    return text.replace("$", r"\$")


def _without_words(figure: Figure, label: str) -> str:
    """The label of an axis without the words `DURING`, which become a note of the figure."""
    short = label.removesuffix(f",\n{DURING}")
    if short != label:
        add_note(figure, f"{short}: {DURING}")
    return short


def _wrapped(title: str, width: int) -> str:
    """A title in lines of at most `width` characters, which end at a " · " where possible."""
    lines: list[str] = []
    for part in title.split(" · "):
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += textwrap.wrap(part, width) or [""]
    return "\n".join(lines)


def _fitting(width: float, font_size: float) -> int:
    """How many characters fit into a width in inches: one is about 0.58 times as wide as high."""
    return max(10, int(width * 72 / (0.58 * font_size)))

"""The parts that figures share: panels with a title, legends above them, and the text that is left to the caption."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from seqjax.errors import check_type
from seqjax.report.figure import Figure
from seqjax.report.metric_labels import DURING
from seqjax.report.plot_fit import characters_in, fit_labels, wrap_title
from seqjax.report.plot_style import DASHES, is_for_paper


def new_figure(
    x_label: str, y_label: str, title: str, panels: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel, or with several below each other that have the same x and y labels.

    In a style for papers, the title is a note for the caption, and so are the words `DURING` behind a label.
    """
    check_type("title", title, str, "a text")
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
        figure.suptitle(
            wrap_title(title, characters_in(width - 0.2, matplotlib.rcParams["font.size"])), fontsize="medium"
        )
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
    fitting = characters_in(width, size)
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

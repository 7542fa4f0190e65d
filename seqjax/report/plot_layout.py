"""The parts that figures share: panels with a title, and legends above them."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from seqjax.report.figure import Figure
from seqjax.report.plot_style import DASHES, column_width


def new_figure(
    x_label: str, y_label: str, title: str, panels: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel, or with several below each other that have the same x and y labels."""
    settings: Any = matplotlib.rcParams
    width, height = settings["figure.figsize"]
    figure = Figure(figsize=(width, height * (1 + 0.45 * (panels - 1))), layout="constrained")
    every = figure.subplots(panels, 1, sharex=True, sharey=sharey, squeeze=False)[:, 0].tolist()
    for axes in every:
        axes.set(ylabel=y_label)
        # Ticks are made when a figure is drawn, which may be after the end of the style.
        sizes = {"width": "xtick.major.width", "length": "xtick.major.size", "labelsize": "xtick.labelsize"}
        axes.tick_params(**{key: settings[name] for key, name in sizes.items()})
    every[-1].set(xlabel=x_label)
    if title:
        size = "medium" if column_width() is None else matplotlib.rcParams["figure.titlesize"]
        figure.suptitle(_wrapped(title, _fitting(width - 0.2, matplotlib.rcParams["font.size"])), fontsize=size)
    return figure, every


def add_legend(figure: Figure, axes: Axes, groups: Sequence[Sequence[tuple[Line2D, str]]], caption: str = "") -> None:
    """Puts a caption and the names of the lines above the axes, and makes the figure higher by their height.

    There are as few rows as fit into the width of the figure. Each group has columns of its own.
    """
    width = figure.get_figwidth() - 8 * matplotlib.rcParams["font.size"] / 72
    size = 10.0 if column_width() is None else matplotlib.rcParams["legend.fontsize"]
    fitting = _fitting(width, size)
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
        if legend.get_window_extent().width <= width * figure.dpi:
            break
    figure.set_figheight(figure.get_figheight() + legend.get_window_extent().height / figure.dpi)


def line_entries(axes: Axes) -> list[list[tuple[Line2D, str]]]:
    """The entries of a legend: the lines of the axes with their names."""
    handles, labels = axes.get_legend_handles_labels()
    return [[(cast(Line2D, handle), label) for handle, label in zip(handles, labels, strict=True)]]


def factor_entries(first: Sequence[str], second: Sequence[str]) -> list[list[tuple[Line2D, str]]]:
    """The entries of two factors: a colour for each value of the first, a line style for each value of the second."""
    colours = colours_of_style()
    return [
        [
            (Line2D([], [], color=colours[n % len(colours)], linewidth=2), plain(value))
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

"""Figures: every function returns one, and writes no file."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, MaxNLocator

from seqjax.errors import Error

STYLE = "petroff10"
FEW = 40
"""A line of at most this many points has a marker at each of them."""
LABELS = {
    "epoch": "epoch",
    "update": "updates",
    "tokens": "tokens",
    "seconds": "time (s)",
    "train_perplexity": "training perplexity",
    "heldout_perplexity": "held-out perplexity",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
}
"""The labels of axes by metric."""


def history(rows: Sequence[dict[str, Any]], title: str = "") -> Figure:
    """Training and held-out perplexity (or loss) of a run by epoch.

    Args:
        rows: the metrics of the run, one row for each epoch.
        title: the title of the figure.

    Raises:
        Error: there are no rows.
    """
    if not rows:
        raise Error("nothing to plot: the run did not reach the end of its first epoch")
    measure = "perplexity" if "train_perplexity" in rows[0] else "loss"
    with matplotlib.style.context(STYLE):
        figure, axes = _figure("epoch", measure, title)
        for part, label in (("train", "training"), ("heldout", "held out")):
            points = [
                (row["epoch"], row[f"{part}_{measure}"]) for row in rows if not math.isnan(row[f"{part}_{measure}"])
            ]
            axes.plot(*zip(*points, strict=True) if points else ([], []), label=label, marker=_marker(len(points)))
        _whole_ticks(axes.xaxis)
        if measure == "perplexity":
            _log_scale(axes)
        axes.legend()
    return figure


def runs(runs: Any, x: str = "update", y: str = "train_loss", title: str = "") -> Figure:
    """One line for each variant: the median over its seeds, in a band from the lowest to the highest value.

    A point is an epoch. If `x` differs between seeds, as seconds do, the point is at their median. Epochs that were not
    evaluated are left out, and so are runs that ended before others of their variant, which the legend counts.

    Args:
        runs: a `Runs`; or runs by name, each of which is a variant of its own.
        x: the column of the metrics along x.
        y: the column of the metrics along y.
        title: the title of the figure.

    Raises:
        Error: no runs; no such metric.
    """
    variants: Mapping[str, Sequence[Any]]
    variants = runs.variants if hasattr(runs, "variants") else {name: [runs[name]] for name in runs}
    if not variants:
        raise Error("nothing to plot: there are no runs")
    # Only runs on tokens have a perplexity; the loss of the others is a squared error.
    tokens = all("train_perplexity" in run.metrics[0] for group in variants.values() for run in group if run.metrics)
    with matplotlib.style.context(STYLE):
        figure, axes = _figure(_label(x, tokens), _label(y, tokens), title)
        for n, (name, group) in enumerate(variants.items()):
            epochs = max(len(run.metrics) for run in group)
            whole = [run for run in group if run.metrics and len(run.metrics) == epochs]
            seeds = f"{len(whole)} seed{'s' * (len(whole) != 1)}"
            if len(whole) < len(group):
                seeds += f", {len(group) - len(whole)} ended early"
            columns = (np.array([run.metric(metric) for run in whole]) for metric in (x, y))
            # [seeds S, epochs N], also where there are none.
            x_SN, y_SN = (column.reshape(len(whole), epochs) for column in columns)
            _band(axes, f"{name} ({seeds})" if name else seeds, x_SN, y_SN, _dashes(n))
        if x in ("epoch", "update"):
            _whole_ticks(axes.xaxis)
        elif x == "tokens":
            axes.xaxis.set_major_formatter(EngFormatter())
        if y.endswith("perplexity"):
            _log_scale(axes)
        _legend(figure, axes)
    return figure


def lines(
    series: Mapping[str, Any],
    *,
    x_label: str = "time step",
    y_label: str = "value",
    x_scale: Literal["linear", "log"] = "linear",
    y_scale: Literal["linear", "log"] = "linear",
    title: str = "",
) -> Figure:
    """Series by name, against their index or against an x of their own; a value that is not a number leaves a gap.

    Args:
        series: name -> values, or name -> (x, values). Values are [n], [n, 1], or [n, dim] for `dim` lines; x is [n].
        x_label: the quantity along x, with its unit.
        y_label: the quantity along y, with its unit.
        x_scale: whether the x axis is linear or logarithmic.
        y_scale: whether the y axis is linear or logarithmic.
        title: the title of the figure.

    Raises:
        Error: no series; values of another shape; x and values differ in length.
    """
    if not isinstance(series, Mapping) or not series:
        raise Error("nothing to plot: there are no series")
    with matplotlib.style.context(STYLE):
        figure, axes = _figure(x_label, y_label, title)
        whole, count = True, 0
        for name, given in series.items():
            x, columns = _series(name, given)
            whole = whole and np.issubdtype(x.dtype, np.integer)
            for n, values in enumerate(columns):
                label = name if len(columns) == 1 else f"{name}, {n}"
                alone = None if len(values) <= FEW else _alone(values)
                axes.plot(x, values, _dashes(count), label=label, linewidth=1, marker=".", markevery=alone)
                count += 1
        axes.set(xscale=x_scale, yscale=y_scale)
        if whole and x_scale == "linear":
            _whole_ticks(axes.xaxis)
        _legend(figure, axes)
    return figure


def heatmap(
    matrix: Any,
    rows: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    *,
    label: str = "value",
    x_label: str = "",
    y_label: str = "",
    title: str = "",
) -> Figure:
    """A matrix as coloured cells, with its first row on top. Up to 16 x 16, the numbers are written in the cells.

    If there are negative entries, the colours are symmetric around 0. An entry that is not a number is grey.

    Args:
        matrix: [rows, columns].
        rows: the names of the rows; None: they are numbered.
        columns: the names of the columns; None: they are numbered.
        label: the quantity that the entries are, with its unit; it is shown beside the colour bar.
        x_label: the quantity that the columns stand for.
        y_label: the quantity that the rows stand for.
        title: the title of the figure.

    Raises:
        Error: an array that is not a matrix; a wrong number of names.
    """
    values = _floats("matrix", matrix)
    if values.ndim != 2 or not values.size:
        raise Error(f"a heat map takes a matrix [rows, columns], not an array of shape {list(values.shape)}")
    for what, names, size in (("rows", rows, values.shape[0]), ("columns", columns, values.shape[1])):
        if names is not None and len(names) != size:
            raise Error(f"{what}: {len(names)} names for {size} {what}")
    small = max(values.shape) <= 16
    with matplotlib.style.context(STYLE):
        figure, axes = _figure(x_label, y_label, title)
        if small:
            figure.set_size_inches(2.5 + 0.65 * values.shape[1], 1.5 + 0.45 * values.shape[0])
        axes.set_facecolor("lightgray")
        finite = np.abs(values[np.isfinite(values)])
        limit = finite.max() if finite.size and np.nanmin(values) < 0 else None
        colours = {"cmap": "viridis"} if limit is None else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        image = axes.imshow(values, aspect="auto", interpolation="nearest", **colours)
        for axis, names in ((axes.yaxis, rows), (axes.xaxis, columns)):
            if names is None:
                _whole_ticks(axis)
            else:
                axis.set_ticks(range(len(names)), [str(name) for name in names])
        if columns is not None and sum(len(str(name)) + 2 for name in columns) > 9 * len(columns):
            for tick in axes.get_xticklabels():
                tick.set(rotation=45, ha="right", rotation_mode="anchor")
        figure.colorbar(image, ax=axes, label=label)
        if small:
            _write_cells(axes, image, values)
    return figure


def by_lag(norms: Any, bias: Any, rate: float, title: str = "") -> Figure:
    """The norms of the parts of a gradient by lag, their rate of decay, and the bias of truncating the gradient.

    Args:
        norms: [K + 1], the norms of the parts that travel 0, ..., K - 1 and at least K steps back.
        bias: [K], the relative bias of a gradient that keeps the last 1, ..., K steps of each loss.
        rate: the factor by which the norm decays in a step, drawn as a line through the norms; NaN: no line.
        title: the title of the figure.
    """
    norms, bias = _floats("norms", norms), _floats("bias", bias)
    k = np.arange(len(norms))
    with matplotlib.style.context(STYLE):
        figure, axes = _figure("steps back", "relative to the gradient of lag 0", title)
        axes.plot(k[:-1], norms[:-1] / norms[0], label="norm of the part of this lag", marker=_marker(len(k)))
        if math.isfinite(rate) and len(k) > 2:
            # The rate is the slope of a fit to the logarithms of the norms of lags 1 to K - 1, without norms of zero.
            # The line goes through their mean.
            inner = norms[1:-1] > 0
            level = np.mean(np.log(norms[1:-1][inner]) - math.log(rate) * k[1:-1][inner])
            axes.plot(k[:-1], np.exp(level) * rate ** k[:-1] / norms[0], "--", label=f"{rate:.3g} a step")
        axes.plot(k[1:], bias, label="relative bias if cut before it", marker=_marker(len(k)))
        axes.set_yscale("log")
        _whole_ticks(axes.xaxis)
        _legend(figure, axes)
    return figure


def _figure(x_label: str, y_label: str, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure, axes


def _whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only: there is no epoch 1.5."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def _log_scale(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, between the powers of ten as well."""
    axes.set_yscale("log")
    # Perplexities often span less than a power of ten, where the default formatter labels nothing.
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _label(metric: str, tokens: bool) -> str:
    """The label of a metric's axis, with its unit."""
    if metric in ("train_loss", "heldout_loss"):
        part = "training" if metric == "train_loss" else "held-out"
        return f"{part} loss (nats)" if tokens else f"{part} mean squared error"
    words = LABELS.get(metric, metric.replace("_", " "))
    return words if tokens else words.replace("tokens", "targets")


def _band(axes: Axes, label: str, x_SN: np.ndarray, y_SN: np.ndarray, dashes: str) -> None:
    """The median over S seeds by N epochs, and the range around it."""
    # An epoch is drawn if it was evaluated with all seeds.
    known = ~np.isnan(x_SN + y_SN).any(0)
    x_SN, y_SN = x_SN[:, known], y_SN[:, known]
    x, y = (np.median(values, 0) if values.size else np.zeros(0) for values in (x_SN, y_SN))
    (line,) = axes.plot(x, y, dashes, label=label, marker=_marker(len(x)))
    if len(y_SN) > 1:
        low, high = y_SN.min(0), y_SN.max(0)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=len(x) == 1)
        # The edges are lines as well, so that they are among the data of a saved report. The leading "_" keeps them out
        # of the legend. Where there is a single point, the band has no width, and its ends are dashes.
        for edge, what in ((low, "lowest"), (high, "highest")):
            (outline,) = axes.plot(x, edge, color=line.get_color(), alpha=0.5, linewidth=0.5, label=f"_{label}, {what}")
            outline.set_marker("_" if len(x) == 1 else "")


def _series(name: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
    """The x [n] and the columns [dim, n] of one series."""
    # A pair of numbers is a series of two values; a pair of sequences is (x, values).
    pair = isinstance(given, tuple) and len(given) == 2 and all(np.ndim(part) for part in given)
    values = _floats(name, given[1] if pair else given)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise Error(f"{name}: values are [n], [n, 1] or [n, dim], not an array of shape {list(values.shape)}")
    x = np.asarray(given[0] if pair else range(len(values)))
    if x.shape != values.shape[:1]:
        raise Error(f"{name}: x of shape {list(x.shape)} for {len(values)} values; give one x for each value")
    return x, values.T


def _floats(name: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError) as fault:
        raise Error(f"{name}: cannot be plotted, since it is not an array of numbers: {fault}") from fault


def _alone(values: np.ndarray) -> list[int]:
    """The indices of values without a neighbour, which a line without markers would not show."""
    known = np.pad(np.isfinite(values), 1)
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def _marker(points: int) -> str:
    return "." if points <= FEW else ""


def _dashes(n: int) -> str:
    """The dashes of the n-th line: the colours of the style repeat after ten lines, and then the dashes change."""
    return ("-", "--", "-.", ":")[n // 10 % 4]


def _legend(figure: Figure, axes: Axes) -> None:
    """The names above the axes, where they hide nothing; the figure grows with them."""
    # About 64 characters fit beside each other in 6 inches, of which a line's sample takes 6; 90 fill a row alone.
    handles, labels = axes.get_legend_handles_labels()
    per_row = max(1, min(len(labels), 64 // (6 + max(map(len, labels), default=0))))
    labels = [textwrap.fill(label, 90) for label in labels]
    legend = axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=per_row, frameon=False)
    box = legend.get_window_extent()
    figure.set_size_inches(max(6, 1.2 + box.width / figure.dpi), 4 + box.height / figure.dpi)


def _write_cells(axes: Axes, image: Any, values: np.ndarray) -> None:
    """The numbers of a matrix in its cells, white on dark colours and black on light ones."""
    for (i, j), value in np.ndenumerate(values):
        if not math.isnan(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            # The luminance of a colour, as television weighs it (ITU-R BT.601, rounded).
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", color="white" if dark else "black")

"""Figures: every function returns one, and writes no file.

>>> import io
>>> import seqjax as sj
>>> figure = sj.plot.lines({"rnn": [3.0, 2.0, 1.5]}, x_label="epoch", y_label="loss (nats)")
>>> file = io.BytesIO()  # or a name such as "loss.png"
>>> figure.savefig(file, format="png")
>>> file.getvalue()[1:4]
b'PNG'

All functions take `figsize`, the width and the height in inches. `figure.caption` has what a reader has to know beside
the figure, and `figure.table` the numbers that are drawn.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, EngFormatter, LogLocator, MaxNLocator, NullFormatter

from seqjax.errors import Error, check_type, counted
from seqjax.report.figure import STYLE, Figure
from seqjax.report.metric_labels import DURING, are_on_tokens, axis_label
from seqjax.report.plot_names import MOST_ENTRIES, characters, fill, list_names, name_lines, plain
from seqjax.report.seeds import average_and_band, caption_of, counts_of, seeds_of
from seqjax.report.table import Table
from seqjax.report.variant_labels import DASHES, Labels, shared_plugins, variant_labels

__all__ = ("averages", "by_lag", "heatmap", "history", "lines", "points", "runs")

FEW = 12
"""A line of at most this many points has a marker at each of them."""
MARKERS = "os^Dv<>Pp*X"
"""The markers of points, in the order in which they are used."""
HOLDS = 1.25
"""A fit of norms by lag holds where the norms differ from it by less than this factor."""
CELL = 0.5, 0.3
"""The width and the height of a cell of a matrix in inches, if the figure has no given size."""
LONGEST = 24
"""The number of characters of the longest name that is written beside a matrix."""
Size = tuple[float, float] | None
Scale = Literal["linear", "log"]


def history(rows: Sequence[dict[str, Any]], title: str = "", *, figsize: Size = None) -> Figure:
    """Training and held-out perplexity (or loss) of a run by epoch.

    The training curve is the mean during an epoch, in which the model changes. The held-out curve is measured after it.

    >>> import seqjax as sj
    >>> rows = [{"epoch": n, "train_loss": 3 / n, "heldout_loss": 3.5 / n} for n in (1, 2, 3)]
    >>> figure = sj.plot.history(rows)  # or run.plot()
    >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
    [[3.0, 1.5, 1.0], [3.5, 1.75, 1.1666666666666667]]

    Args:
        rows: the metrics of the run, one row for each epoch.
        title: the title of the figure.
        figsize: the width and the height in inches.

    Raises:
        Error: there are no rows.
    """
    check_type("plot.history: rows", rows, Sequence, "the rows of a run, such as run.metrics")
    if not rows:
        raise Error("nothing to plot: the run did not reach the end of its first epoch")
    measure = "perplexity" if "train_perplexity" in rows[0] else "loss"
    series = {}
    for part, name in (("train", "training"), ("heldout", "held out")):
        known = [row for row in rows if not math.isnan(row[f"{part}_{measure}"])]
        series[name] = np.array([row["epoch"] for row in known], int), [row[f"{part}_{measure}"] for row in known]
    scale: Scale = "log" if measure == "perplexity" else "linear"
    figure = lines(series, x_label="epoch", y_label=measure, y_scale=scale, title=title, figsize=figsize)
    figure.add_note(f"training: {DURING}; held out: after the epoch")
    return figure


@matplotlib.rc_context(STYLE)
def runs(
    runs: Any,
    x: str = "update",
    y: str = "train_loss",
    title: str = "",
    *,
    average: Literal["mean", "median"] = "mean",
    band: Literal["interval", "range"] = "interval",
    figsize: Size = None,
) -> Figure:
    """One line for each variant: the mean over its seeds, in a band that is the 95 % bootstrap interval of this mean.

    The caption of the figure says what is drawn, and names the dataset, the model and what else all runs share. Where
    variants differ in two ways, such as `"gradient"` and `"optimizer.learning_rate"`, the first is shown by the colour
    and the second by the line style.

    A point is an epoch. If `x` differs between seeds, such as seconds, the point is at the median x. Epochs that were
    not evaluated are left out, and so are runs that diverged or are unfinished, if others of their variant trained
    longer; the caption counts them. After the end of a run that stopped early, the average is over the seeds that
    trained longer.

    >>> import seqjax as sj
    >>> from seqjax.models import NGram
    >>> text = sj.Text("abc" * 100)
    >>> runs = {f"order {n}": sj.Experiment(dataset=text, model=NGram(order=n)).run() for n in (1, 2)}
    >>> figure = sj.plot.runs(runs, x="epoch", y="heldout_perplexity")
    >>> figure.axes[0].get_ylabel(), [line.get_label() for line in figure.axes[0].lines]
    ('held-out perplexity', ['order 1', 'order 2'])

    Args:
        runs: a `Runs`; or runs by name, each of which is a variant of its own.
        x: the column of the metrics along x.
        y: the column of the metrics along y.
        title: the title of the figure.
        average: the line: `"mean"` or `"median"` over the seeds.
        band: `"interval"`: the 95 % bootstrap interval of the average, as `seqjax.report.bootstrap.interval` computes
            it; `"range"`: from the lowest to the highest value. A single seed has no band, and two have the range.
        figsize: the width and the height in inches.

    Raises:
        Error: no runs; no such metric; an unknown `average` or `band`.
    """
    _check_average(average, band)
    variants, labels = _variants(runs)
    every = [run for group in variants.values() for run in group]
    for run in every:
        for name in (x, y) if run.metrics else ():
            run.metric(name)  # for its error
    tokens = are_on_tokens(every)
    groups = {name: seeds_of(group) for name, group in variants.items()}
    # The usual number of seeds stands in the caption once, and any other one with the name of its variant.
    counts = [seeds.in_words for seeds in groups.values()]
    usual = max(counts, key=counts.count)
    (x_label, _, _), (y_label, _, during) = (axis_label(name, tokens).partition(",\n") for name in (x, y))
    figure, (axes,) = _new(x_label, y_label, title, figsize)
    if shared := title_of([run.experiment for run in every], labels.shared):
        figure.add_note(shared)
    if during:
        figure.add_note(f"{y_label}: {during}")
    looks, drawn = _looks(len(groups), labels.factors), []
    for look, (name, seeds) in zip(looks, groups.items(), strict=True):
        x_SN, y_SN = seeds.column(x), seeds.column(y)
        drawn += _band(axes, name or seeds.in_words, x_SN, y_SN, seeds.lengths, look, average, band)
    _scale(axes, "linear", "log" if y.endswith("perplexity") else "linear")
    by_length = [n for seeds in groups.values() for n in counts_of(seeds.lengths)]
    figure.add_note(caption_of(usual, by_length, average, band))
    if any(len({*seeds.lengths}) > 1 for seeds in groups.values()):
        figure.add_note("after a seed ends: average of the others")
    for name, count in zip(labels.short, counts, strict=True):
        if count != usual:
            figure.add_note(f"variant {name}: {count}")
    named = [(line, plain(name)) for line, name in zip(axes.lines, labels.short, strict=True) if name]
    factors = _factor_entries(*labels.factors) if labels.factors else []
    if 0 < len(factors) <= MOST_ENTRIES:
        name_lines(figure, axes, factors, by_style=True)
    elif named:
        name_lines(figure, axes, named)
    figure.table = Table(("name", "x", "y", "low", "high"), drawn)
    return figure


def _variants(runs: Any) -> tuple[Mapping[str, Sequence[Any]], Labels]:
    """The runs of each variant, and the labels of the variants. Names that are given with runs stay as they are."""
    is_grouped = hasattr(runs, "variants")
    if not is_grouped:
        check_type("plot.runs: runs", runs, Mapping, "a Runs, or a dict of names and runs")
    variants = runs.variants if is_grouped else {name: [runs[name]] for name in runs}
    if not variants:
        raise Error("nothing to plot: there are no runs")
    return variants, variant_labels(list(variants)) if is_grouped else Labels((), tuple(variants), None)


def title_of(experiments: Sequence[Any], shared: Sequence[str] = ()) -> str:
    """What a figure of experiments shows: the dataset, model, gradient strategy and optimizer that all have.

    Args:
        experiments: at least one.
        shared: what else they share, in words.
    """
    return "; ".join(dict.fromkeys([*shared_plugins(experiments), *shared]))


@matplotlib.rc_context(STYLE)
def lines(
    series: Mapping[str, Any],
    *,
    x_label: str = "time step",
    y_label: str = "value",
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    title: str = "",
    panels: bool = False,
    figsize: Size = None,
) -> Figure:
    """Series by name, against their index or against an x of their own; a value that is not a number leaves a gap.

    >>> import numpy as np
    >>> import seqjax as sj
    >>> t = np.arange(50)
    >>> figure = sj.plot.lines({"sine": np.sin(0.1 * t), "cosine": (0.1 * t, np.cos(0.1 * t))}, x_label="time (s)")
    >>> [len(line.get_xdata()) for line in figure.axes[0].lines]
    [50, 50]

    Args:
        series: name -> values, or name -> (x, values). Values are [n], [n, 1], or [n, dim] for `dim` lines; x is [n].
        x_label: the quantity along x, with its unit.
        y_label: the quantity along y, with its unit.
        x_scale: whether the x axis is linear or logarithmic.
        y_scale: whether the y axis is linear or logarithmic.
        title: the title of the figure.
        panels: whether each series has a panel of its own, one below the other with the same axes, so that no series
            hides another.
        figsize: the width and the height in inches.

    Raises:
        Error: no series; values of another shape; x and values differ in length; an unknown scale.
    """
    _check_scales(x_scale, y_scale)
    if not isinstance(series, Mapping) or not series:
        raise Error("nothing to plot: there are no series")
    figure, every = _new(x_label, y_label, title, figsize, len(series) if panels else 1, sharey=True)
    drawn = []
    looks = zip(matplotlib.rcParams["axes.prop_cycle"](), itertools.cycle(MARKERS), strict=False)
    for number, (name, given) in enumerate(series.items()):
        axes = every[number if panels else 0]
        x, columns = _series(name, given)
        for n, values in enumerate(columns):
            label = name if len(columns) == 1 else f"{name}, {n}"
            look, marker = next(looks)
            if len(values) > FEW:
                # A point without a neighbour has a marker, since a line alone would not show it.
                look["markevery"] = alone = _alone(values)
                marker = "." if alone else ""
            # Markers of their own tell short lines apart in print without colours.
            axes.plot(x, values, label=label, marker=marker, **look)
            drawn += [(label, *point) for point in zip(x.tolist(), values.tolist(), strict=True)]
    for axes in every:
        _scale(axes, x_scale, y_scale)
        name_lines(figure, axes, _entries(axes))
    figure.table = Table(("name", "x", "y"), drawn)
    return figure


@matplotlib.rc_context(STYLE)
def averages(
    series: Mapping[str, Any],
    *,
    of: str = "seed",
    x_label: str = "time step",
    y_label: str = "value",
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    title: str = "",
    average: Literal["mean", "median"] = "mean",
    band: Literal["interval", "range"] = "interval",
    figsize: Size = None,
) -> Figure:
    """Averages of repeated series by name, each in a band as `runs` draws it; the caption says what is drawn.

    >>> import seqjax as sj
    >>> losses = [[3.0, 2.0, 1.0], [5.0, 4.0, 3.0], [4.0, 3.0, 2.0]]  # of three seeds
    >>> figure = sj.plot.averages({"rnn": ([1, 2, 3], losses)}, x_label="epoch", y_label="loss", band="range")
    >>> figure.caption
    'Mean of 3 seeds; band: lowest to highest.'
    >>> print(figure.table)
    name      x      y    low   high
    rnn   1.000  4.000  3.000  5.000
    rnn   2.000  3.000  2.000  4.000
    rnn   3.000  2.000  1.000  3.000

    Args:
        series: name -> (x, values), x [n] and values [S, n], one row for each repetition. An x at which a value is not
            a number is left out.
        of: what the rows of `values` are, in the singular.
        x_label: the quantity along x, with its unit.
        y_label: the quantity along y, with its unit.
        x_scale: whether the x axis is linear or logarithmic.
        y_scale: whether the y axis is linear or logarithmic.
        title: the title of the figure.
        average: the line: `"mean"` or `"median"` of the rows.
        band: `"interval"` or `"range"`, as in `runs`.
        figsize: the width and the height in inches.

    Raises:
        Error: no series; values of another shape; x and values differ in length; an unknown `average`, `band` or scale.
    """
    _check_average(average, band)
    _check_scales(x_scale, y_scale)
    check_type("plot.averages: series", series, Mapping, "a dict of names and (x, values)")
    if not series:
        raise Error("nothing to plot: there are no series")
    figure, (axes,) = _new(x_label, y_label, title, figsize)
    counts, drawn = [], []
    for look, (name, (x, values)) in zip(_looks(len(series)), series.items(), strict=True):
        x, y_SN = np.asarray(x), _floats(name, values)
        if y_SN.ndim != 2 or x.shape != y_SN.shape[1:]:
            shapes = f"{list(x.shape)} and {list(y_SN.shape)}"
            raise Error(f"{name}: an average is drawn of x [n] and values [S, n], not of {shapes}")
        lengths = [len(x)] * len(y_SN)
        drawn += _band(axes, name, np.tile(x, (len(y_SN), 1)), y_SN, lengths, look, average, band)
        counts.append(len(y_SN))
    _scale(axes, x_scale, y_scale)
    seeds = counted(counts[0], of) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} {of}s"
    figure.add_note(caption_of(seeds, counts, average, band, of))
    name_lines(figure, axes, _entries(axes))
    figure.table = Table(("name", "x", "y", "low", "high"), drawn)
    return figure


@matplotlib.rc_context(STYLE)
def points(
    points: Mapping[str, tuple[float, float]],
    *,
    x_label: str = "",
    y_label: str = "",
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    title: str = "",
    figsize: Size = None,
) -> Figure:
    """Single points by name, each with a marker of its own; of one that is not a number, the name alone is shown.

    >>> import seqjax as sj
    >>> figure = sj.plot.points({"full": (1.0, 8.0), "8 steps": (0.9, 2.0)}, x_label="ms", y_label="MB")
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['full', '8 steps']

    Args:
        points: name -> (x, y).
        x_label: the quantity along x, with its unit.
        y_label: the quantity along y, with its unit.
        x_scale: whether the x axis is linear or logarithmic.
        y_scale: whether the y axis is linear or logarithmic.
        title: the title of the figure.
        figsize: the width and the height in inches.

    Raises:
        Error: no points; an unknown scale.
    """
    _check_scales(x_scale, y_scale)
    check_type("plot.points: points", points, Mapping, "a dict of names and (x, y)")
    if not points:
        raise Error("nothing to plot: there are no points")
    figure, (axes,) = _new(x_label, y_label, title, figsize)
    colours = _colours()
    for n, (name, (x, y)) in enumerate(points.items()):
        colour, marker = colours[n % len(colours)], MARKERS[n % len(MARKERS)]
        axes.plot([x], [y], label=name, linestyle="none", color=colour, marker=marker)
    _scale(axes, x_scale, y_scale)
    name_lines(figure, axes, _entries(axes))
    figure.table = Table(("name", "x", "y"), [(name, x, y) for name, (x, y) in points.items()])
    return figure


@matplotlib.rc_context(STYLE)
def heatmap(
    matrix: Any,
    rows: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    *,
    label: str = "value",
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    figsize: Size = None,
) -> Figure:
    """A matrix as coloured cells, with its first row on top. Up to 16 x 16, numbers that have room are in the cells.

    If there are negative entries, the colours are symmetric around 0. An entry that is not a number is grey. Names that
    have no room are replaced by numbers, and the caption has them.

    >>> import seqjax as sj
    >>> names = ["full", "8 steps"]
    >>> figure = sj.plot.heatmap([[1.0, 0.5], [0.5, 1.0]], rows=names, columns=names, label="cosine")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '0.5', '0.5', '1']

    Args:
        matrix: [rows, columns].
        rows: the names of the rows; None: they are numbered.
        columns: the names of the columns; None: they are numbered.
        label: the quantity that the entries are, with its unit; it is shown beside the colour bar.
        x_label: the quantity that the columns stand for.
        y_label: the quantity that the rows stand for.
        title: the title of the figure.
        figsize: the width and the height in inches; None: as large as the cells need.

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
    longest = max(len(str(name)) for name in ([""] if rows is None else rows))
    beside = 1.2 + 0.06 * longest * (longest <= LONGEST)
    by_cells = (beside + CELL[0] * max(3, values.shape[1]), 1.2 + CELL[1] * max(3, values.shape[0]))
    figure, (axes,) = _new(x_label, y_label, title, by_cells if figsize is None and small else figsize)
    axes.set_facecolor("lightgray")
    finite = np.abs(values[np.isfinite(values)])
    limit = finite.max() if finite.size and np.nanmin(values) < 0 else None
    colours = {"cmap": "viridis"} if limit is None else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **colours)
    width = (figure.get_figwidth() - beside) / values.shape[1]
    _name_cells(figure, axes, rows, columns, width)
    figure.colorbar(
        image,
        ax=axes,
        label=fill(label, characters(figure.get_figheight() - 0.3, matplotlib.rcParams["axes.labelsize"])),
    )
    # A number of three digits takes about four times the size of its font.
    if small and width >= 4 * matplotlib.rcParams["xtick.labelsize"] / 72:
        _write_cells(axes, image, values)
    y_names = range(values.shape[0]) if rows is None else rows
    x_names = range(values.shape[1]) if columns is None else columns
    cells = [(str(y_names[i]), str(x_names[j]), value.item()) for (i, j), value in np.ndenumerate(values)]
    figure.table = Table(("row", "column", "value"), cells)
    return figure


@matplotlib.rc_context(STYLE)
def by_lag(norms: Any, bias: Any, fit: Any = None, title: str = "", *, figsize: Size = None) -> Figure:
    """The norms of the parts of a gradient by lag, and the bias of truncating the gradient, in two panels.

    The upper panel has the norms relative to the norm of lag 0, and a fit of their decay. The line of the fit is drawn
    over the longest range of lags in which it differs from the norms by less than the factor `HOLDS`, which may be
    shorter than the range that was fitted; the caption has both. If there are fewer than three such lags, there is no
    line. The lower panel has the bias, relative to the norm of the whole gradient.

    >>> import seqjax as sj
    >>> figure = sj.plot.by_lag(norms=[1.0, 0.5, 0.25, 0.125], bias=[0.467, 0.2, 0.067])
    >>> [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    [[1.0, 0.5, 0.25], [0.467, 0.2, 0.067]]

    Args:
        norms: [K + 1], the norms of the parts that travel 0, ..., K - 1 and at least K steps back.
        bias: [K], the relative bias of a gradient that keeps the last 1, ..., K steps of each loss.
        fit: [K + 1], norms that decay by the same factor in each step, NaN at lags that were not fitted; None: no fit.
        title: the title of the figure.
        figsize: the width and the height in inches.
    """
    norms, bias = _floats("norms", norms), _floats("bias", bias)
    fit = np.full(len(norms), np.nan) if fit is None else _floats("fit", fit)
    k = np.arange(len(norms))
    figure, (upper, lower) = _new("lag k (steps)", "", title, figsize, panels=2)
    upper.set_ylabel("norm of part k,\nrelative to part 0")
    lower.set_ylabel("relative bias if\nonly lags < k are kept")
    marker = _marker(len(k))
    relative = _positive(norms[:-1] / norms[0])
    upper.plot(k[:-1], relative, label="part from lag k", marker=marker)
    shown = np.full(len(norms), np.nan)
    held = _longest(np.abs(np.log(_positive(norms[:-1]) / fit[:-1])) < math.log(HOLDS))
    if held.stop - held.start >= 3:
        factor = math.exp(np.mean(np.diff(np.log(fit[held]))))
        fitted = np.flatnonzero(~np.isnan(fit))
        note = f"fit to lags {fitted[0]} to {fitted[-1]}: ×{factor:.3g} a step, "
        note += f"within {100 * (HOLDS - 1):.0f}\u202f%"
        if (fitted[0], fitted[-1]) != (held.start, held.stop - 1):
            note += f" from lag {held.start} to {held.stop - 1}"
        figure.add_note(note)
        shown[held] = fit[held] / norms[0]
        upper.plot(k[held], shown[held], "--", color="black", label="fit")
    lower.plot(k[1:], _positive(bias), marker=marker)
    for axes, values in ((upper, norms), (lower, bias)):
        # An axis without positive values, as for a state that no gradient passes, cannot be logarithmic.
        _scale(axes, "linear", "log" if (values > 0).any() else "linear")
    name_lines(figure, upper, _entries(upper))
    table = np.stack([k, [*relative, np.nan], shown, [np.nan, *bias]], 1)
    figure.table = Table(("lag", "norm", "fit", "bias"), [_cells(row) for row in table])
    return figure


def _new(
    x_label: str, y_label: str, title: str, figsize: Any, panels: int = 1, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel, or with several below each other that have the same x and y labels."""
    check_type("title", title, str, "a text")
    if figsize is None:
        width, height = matplotlib.rcParams["figure.figsize"]
        figsize = width, height * (1 + 0.45 * (panels - 1))
    try:
        width, height = map(float, figsize)
    except (TypeError, ValueError):
        width = height = math.nan
    if not (1 <= width <= 100 and 1 <= height <= 1000):
        raise Error(f"figsize = {figsize!r:.80}: give the width and the height in inches, such as (3.25, 2.3)")
    figure, size = Figure(figsize=(width, height), layout="constrained"), matplotlib.rcParams["font.size"]
    every = figure.subplots(panels, 1, sharex=True, sharey=sharey, squeeze=False)[:, 0].tolist()
    for axes in every:
        axes.set_ylabel(fill(y_label, characters((height - 0.5) / panels - 0.1, size)))
    every[-1].set_xlabel(fill(x_label, characters(width - 0.8, size)))
    if title:
        figure.suptitle(fill(plain(title), characters(width - 0.2, size)))
    return figure, every


def _scale(axes: Axes, x_scale: str, y_scale: str) -> None:
    for axis, scale in ((axes.xaxis, x_scale), (axes.yaxis, y_scale)):
        if scale == "log":
            _log(axis)
    numbers = np.concatenate([np.asarray(line.get_xdata(), np.float64) for line in axes.lines])
    if x_scale == "linear" and np.array_equal(numbers, np.round(numbers)):  # there is no epoch 1.5
        axes.locator_params(axis="x", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    # A common power of ten beside the axis would hide a long label.
    if x_scale == "linear" and max(map(abs, axes.get_xlim())) >= 1e5:
        axes.xaxis.set_major_formatter(EngFormatter())


def _log(axis: Axis) -> None:
    """Makes an axis logarithmic. If it spans few powers of ten, their multiples have labels, as plain numbers."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_minor_formatter(NullFormatter())
    low, high = axis.get_view_interval()
    if 1e-4 < low < high < 1e6 and high < 1e3 * low:
        axis.set_major_locator(AutoLocator() if high < 5 * low else LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")


def _check_average(average: str, band: str) -> None:
    _check_choice("average", average, ("mean", "median"))
    _check_choice("band", band, ("interval", "range"))


def _check_scales(x_scale: str, y_scale: str) -> None:
    for name, scale in (("x_scale", x_scale), ("y_scale", y_scale)):
        _check_choice(name, scale, ("linear", "log"))


def _check_choice(name: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise Error(f"{name} = {given!r} must be {' or '.join(map(repr, choices))}")


def _positive(values: np.ndarray) -> np.ndarray:
    """The values, with NaN in place of values that a logarithmic axis cannot show."""
    return np.where(values > 0, values, np.nan)


def _longest(is_true: np.ndarray) -> slice:
    """The longest range of entries that are all true."""
    edges = np.flatnonzero(np.diff(np.pad(is_true, 1).astype(int)))
    starts, stops = edges[::2], edges[1::2]
    longest = np.argmax(stops - starts) if len(starts) else None
    return slice(0, 0) if longest is None else slice(int(starts[longest]), int(stops[longest]))


def _entries(axes: Axes) -> list[tuple[Line2D, str]]:
    """The lines of a panel with their names."""
    return [(line, str(line.get_label())) for line in axes.lines]


def _factor_entries(first: Sequence[str], second: Sequence[str]) -> list[tuple[Line2D, str]]:
    """The entries of two factors: a colour for each value of the first, a line style for each value of the second."""
    colours: Any = itertools.cycle(_colours())
    dashes: Any = iter(DASHES)
    entries = [(Line2D([], [], color=next(colours)), plain(name)) for name in dict.fromkeys(first)]
    return entries + [
        (Line2D([], [], color="gray", linestyle=next(dashes)), plain(name)) for name in dict.fromkeys(second)
    ]


def _colours() -> list[str]:
    """The colours of the style, each once."""
    return list(dict.fromkeys(matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]))


def _looks(count: int, factors: tuple[Sequence[str], Sequence[str]] | None = None) -> list[dict[str, Any]]:
    """The colour and the line style of each line, by two factors if they are given."""
    if factors is None:
        return list(itertools.islice(itertools.cycle(matplotlib.rcParams["axes.prop_cycle"]), count))
    colours = _colours()
    first, second = ([list(dict.fromkeys(column)).index(value) for value in column] for column in factors)
    return [
        {"color": colours[a % len(colours)], "linestyle": DASHES[b % len(DASHES)]}
        for a, b in zip(first, second, strict=True)
    ]


def _band(
    axes: Axes,
    label: str,
    x_SN: np.ndarray,
    y_SN: np.ndarray,
    lengths: Sequence[int],
    look: dict[str, Any],
    average: Any,
    band: Any,
) -> list[tuple[Any, ...]]:
    """The average over S seeds of the given numbers of epochs, at most N, and the band around it; returns its rows."""
    x, _, _ = average_and_band(x_SN, lengths, "median", "range")
    y, low, high = average_and_band(y_SN, lengths, average, band)
    # An epoch is drawn if it was evaluated for all seeds that have it.
    known = ~np.isnan(x + y)
    x, y, low, high = x[known], y[known], low[known], high[known]
    axes.plot(x, y, label=label, marker=_marker(len(x)), **look)
    if not np.isnan(low).all():
        # A band at a single point has no width, but an edge.
        axes.fill_between(x, low, high, color=look["color"], alpha=0.25, linewidth=len(x) == 1)
    numbers = np.stack([x, y, low, high], 1)
    return [(label, *_cells(row)) for row in numbers]


def _cells(numbers: np.ndarray) -> list[float | None]:
    """A row of a table, with an empty cell where there is no number."""
    return [None if math.isnan(number) else number for number in numbers.tolist()]


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


def _name_cells(figure: Figure, axes: Axes, rows: Any, columns: Any, width: float) -> None:
    """The names of rows and columns beside a matrix whose cells have a width in inches."""
    size = matplotlib.rcParams["ytick.labelsize"]
    both = "Rows and columns" if rows is not None and rows == columns else ""
    listed: list[str] | None = None
    for axis, names, what in ((axes.yaxis, rows, both or "Rows"), (axes.xaxis, columns, both or "Columns")):
        if names is None:
            axis.set_major_locator(MaxNLocator("auto", integer=True))
            continue
        texts = [str(name) for name in names]
        slanted = axis is axes.xaxis and max(map(len, texts)) > characters(width, size) + 1
        if max(map(len, texts)) > LONGEST or (slanted and width < 1.4 * size / 72):
            texts = listed = listed if both and listed else list_names(figure, what, [str(name) for name in names])
            slanted = False
        axis.set_ticks(range(len(texts)), texts)
        if slanted:
            for tick in axis.get_ticklabels():
                tick.set(rotation=45, ha="right", rotation_mode="anchor")


def _write_cells(axes: Axes, image: Any, values: np.ndarray) -> None:
    """The numbers of a matrix in its cells, white on dark colours and black on light ones."""
    size = matplotlib.rcParams["xtick.labelsize"]
    for (i, j), value in np.ndenumerate(values):
        if not math.isnan(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            # The luminance of a colour, as television weighs it (ITU-R BT.601, rounded).
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=size, color="white" if dark else "black")

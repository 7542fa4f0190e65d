"""Figures: every function returns one, and writes no file.

>>> import io
>>> import seqjax as sj
>>> figure = sj.plot.lines({"rnn": [3.0, 2.0, 1.5]}, x_label="epoch", y_label="loss (nats)")
>>> file = io.BytesIO()  # or a name such as "loss.png"
>>> figure.savefig(file, format="png")
>>> file.getvalue()[1:4]
b'PNG'
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from seqjax.errors import Error, check_type, counted
from seqjax.report.figure import Figure
from seqjax.report.metric_labels import DURING, are_on_tokens, axis_label
from seqjax.report.plot_fit import fit_labels, fit_names
from seqjax.report.plot_layout import (
    add_legend,
    add_note,
    colours_of_style,
    factor_entries,
    line_entries,
    new_figure,
    plain,
)
from seqjax.report.plot_range import show_end
from seqjax.report.plot_style import DASHES, current, is_for_paper, style
from seqjax.report.seeds import Seeds, average_and_band, caption_of, counts_of, seeds_of
from seqjax.report.ticks import log_ticks, whole_ticks
from seqjax.report.variant_labels import Labels, shared_plugins, variant_labels

__all__ = ("averages", "by_lag", "heatmap", "history", "lines", "points", "runs", "style")

FEW = 12
"""A line of at most this many points has a marker at each of them."""
CELL_FONT = 0.8
"""The size of the numbers in cells, relative to the size of other texts."""
MARKERS = "os^Dv<>Pp*X"
"""The markers of points, in the order in which they are used."""
HOLDS = 1.25
"""A fit of norms by lag holds where the norms differ from it by less than this factor."""


def history(rows: Sequence[dict[str, Any]], title: str = "", whole: bool = False) -> Figure:
    """Training and held-out perplexity (or loss) of a run by epoch.

    The training curve is the mean during an epoch, in which the model changes. The held-out curve is measured after it.
    The y axis has the range of `runs`.

    >>> import seqjax as sj
    >>> rows = [{"epoch": n, "train_loss": 3 / n, "heldout_loss": 3.5 / n} for n in (1, 2, 3)]
    >>> figure = sj.plot.history(rows)  # or run.plot()
    >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
    [[3.0, 1.5, 1.0], [3.5, 1.75, 1.1666666666666667]]

    Args:
        rows: the metrics of the run, one row for each epoch.
        title: the title of the figure.
        whole: whether the y axis includes the start of the training in any case.

    Raises:
        Error: there are no rows.
    """
    check_type("plot.history: rows", rows, Sequence, "the rows of a run, such as run.metrics")
    if not rows:
        raise Error("nothing to plot: the run did not reach the end of its first epoch")
    measure = "perplexity" if "train_perplexity" in rows[0] else "loss"
    with current():
        figure, (axes,) = new_figure("epoch", measure, title)
        if is_for_paper():
            add_note(figure, f"training: {DURING}; held out: after the epoch")
        values: list[np.ndarray] = []
        for part, name, when in (("train", "training", DURING), ("heldout", "held out", "after the epoch")):
            points = [
                (row["epoch"], row[f"{part}_{measure}"]) for row in rows if not math.isnan(row[f"{part}_{measure}"])
            ]
            x, y = np.array(points, np.float64).reshape(-1, 2).T
            label = name if is_for_paper() else f"{name}, {when}"
            axes.plot(x, y, label=label, marker=_marker(len(points)), linestyle=DASHES[len(values)])
            values.append(y[None])
        whole_ticks(axes.xaxis)
        if measure == "perplexity":
            log_ticks(axes.yaxis)
        hidden = "" if whole else show_end(axes, values)
        add_legend(figure, axes, line_entries(axes), caption=hidden)
    return figure


def runs(
    runs: Any,
    x: str = "update",
    y: str = "train_loss",
    title: str | None = None,
    *,
    average: Literal["mean", "median"] = "mean",
    band: Literal["interval", "range"] = "interval",
    whole: bool = False,
) -> Figure:
    """One line for each variant: the mean over its seeds, in a band that is the 95 % bootstrap interval of this mean.

    The legend says what is drawn; in a style for papers, the caption of the figure says it. Where variants differ in
    two ways, such as `"gradient"` and `"optimizer.learning_rate"`, the first is shown by the colour and the second by
    the line style. Lines are drawn from wide to narrow, so that those which coincide can be seen; in a style for papers
    all have the same width.

    A point is an epoch. If `x` differs between seeds, such as seconds, the point is at the median x. Epochs that were
    not evaluated are left out, and so are runs that diverged or are unfinished, if others of their variant trained
    longer; the legend counts them. After the end of a run that stopped early, the average is over the seeds that
    trained longer.

    If the first half of the curves would take most of the y axis, the axis has the range of the second half plus 50 %
    of headroom, and the legend says what lies outside. The lines keep all of their data.

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
        title: the title of the figure; None: dataset, model and what else all runs share.
        average: the line: `"mean"` or `"median"` over the seeds.
        band: `"interval"`: the 95 % bootstrap interval of the average, as `seqjax.report.bootstrap.interval` computes
            it; `"range"`: from the lowest to the highest value. A single seed has no band, and two have the range.
        whole: whether the y axis includes the start of the training in any case.

    Raises:
        Error: no runs; no such metric; an unknown `average` or `band`.
    """
    _check_choice("average", average, ("mean", "median"))
    _check_choice("band", band, ("interval", "range"))
    variants, labels = _variants(runs)
    every = [run for group in variants.values() for run in group]
    for run in every:
        for name in (x, y) if run.metrics else ():
            run.metric(name)  # for its error
    tokens = are_on_tokens(every)
    title = title_of([run.experiment for run in every], labels.shared) if title is None else title
    groups = {name: seeds_of(group) for name, group in variants.items()}
    with current():
        figure, (axes,) = new_figure(axis_label(x, tokens), axis_label(y, tokens), title)
        drawn = []
        for look, (name, seeds) in zip(_looks(len(groups), labels.factors), groups.items(), strict=True):
            x_SN, y_SN = seeds.column(x), seeds.column(y)
            drawn.append(_band(axes, name or seeds.in_words, x_SN, y_SN, seeds.lengths, look, average, band))
        if x in ("epoch", "update"):
            whole_ticks(axes.xaxis)
        elif x == "tokens":
            axes.xaxis.set_major_formatter(EngFormatter())
        if y.endswith("perplexity"):
            log_ticks(axes.yaxis)
        hidden = "" if whole else show_end(axes, drawn)
        entries, caption = _legend(axes, labels, list(groups.values()), average, band)
        add_legend(figure, axes, entries, caption="\n".join(filter(None, (caption, hidden))))
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


def _legend(
    axes: Any, labels: Labels, groups: Sequence[Seeds], average: Literal["mean", "median"], band: str
) -> tuple[list[Any], str]:
    """The entries of the legend of `runs`, and its caption, which says what the lines and bands are.

    The caption has the usual number of seeds once. Any other number is shown beside its variant, or in the caption of a
    paper.
    """
    counts = [seeds.in_words for seeds in groups]
    usual = max(counts, key=counts.count)
    caption = caption_of(usual, [n for seeds in groups for n in counts_of(seeds.lengths)], average, band)
    if any(len({*seeds.lengths}) > 1 for seeds in groups):
        caption += "\nafter a seed ends: average of the others"
    if labels.factors and len(set(counts)) == 1:
        return factor_entries(*labels.factors), caption
    texts = list(labels.short)
    for n, count in enumerate(counts):
        if count != usual and is_for_paper():
            caption += f"\nvariant {texts[n]}: {count}"
        elif count != usual:
            texts[n] += f" ({count})"
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return [[(line, plain(text)) for line, text in zip(lines, texts, strict=True) if text]], caption


def title_of(experiments: Sequence[Any], shared: Sequence[str] = ()) -> str:
    """The title of a figure of experiments: the dataset, model, gradient strategy and optimizer that all have.

    Args:
        experiments: at least one.
        shared: what else they share, in words.
    """
    return plain(" · ".join(dict.fromkeys([*shared_plugins(experiments), *shared])))


def lines(
    series: Mapping[str, Any],
    *,
    x_label: str = "time step",
    y_label: str = "value",
    x_scale: Literal["linear", "log"] = "linear",
    y_scale: Literal["linear", "log"] = "linear",
    title: str = "",
    panels: bool = False,
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

    Raises:
        Error: no series; values of another shape; x and values differ in length; an unknown scale.
    """
    _check_scales(x_scale, y_scale)
    if not isinstance(series, Mapping) or not series:
        raise Error("nothing to plot: there are no series")
    with current():
        figure, every = new_figure(x_label, y_label, title, len(series) if panels else 1, sharey=True)
        whole = True
        looks = zip(matplotlib.rcParams["axes.prop_cycle"](), itertools.cycle(MARKERS), strict=False)
        for number, (name, given) in enumerate(series.items()):
            axes = every[number if panels else 0]
            x, columns = _series(name, given)
            whole = whole and np.issubdtype(x.dtype, np.integer)
            for n, values in enumerate(columns):
                label = name if len(columns) == 1 else f"{name}, {n}"
                look, marker = next(looks)
                if len(values) <= FEW:
                    # Markers of their own tell lines apart in print without colours.
                    marks: dict[str, Any] = {"marker": marker, "markersize": 4}
                else:
                    # A point without a neighbour has a marker, since a line alone would not show it.
                    alone = _alone(values)
                    marks = {"marker": "." if alone else "", "markevery": alone}
                width = 0.7 * matplotlib.rcParams["lines.linewidth"]
                axes.plot(x, values, label=label, linewidth=width, **marks, **look)
        for axes in every:
            if x_scale == "log":
                log_ticks(axes.xaxis)
            elif whole:
                whole_ticks(axes.xaxis)
            if y_scale == "log":
                log_ticks(axes.yaxis)
            add_legend(figure, axes, line_entries(axes))
    return figure


def averages(
    series: Mapping[str, Any],
    *,
    of: str = "seed",
    x_label: str = "time step",
    y_label: str = "value",
    x_scale: Literal["linear", "log"] = "linear",
    y_scale: Literal["linear", "log"] = "linear",
    title: str = "",
    average: Literal["mean", "median"] = "mean",
    band: Literal["interval", "range"] = "interval",
) -> Figure:
    """Averages of repeated series by name, each in a band as `runs` draws it; the legend says what is drawn.

    >>> import seqjax as sj
    >>> losses = [[3.0, 2.0, 1.0], [5.0, 4.0, 3.0], [4.0, 3.0, 2.0]]  # of three seeds
    >>> figure = sj.plot.averages({"rnn": ([1, 2, 3], losses)}, x_label="epoch", y_label="loss", band="range")
    >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]  # the mean, and the edges of the band
    [[4.0, 3.0, 2.0], [3.0, 2.0, 1.0], [5.0, 4.0, 3.0]]

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

    Raises:
        Error: no series; values of another shape; x and values differ in length; an unknown `average`, `band` or scale.
    """
    _check_choice("average", average, ("mean", "median"))
    _check_choice("band", band, ("interval", "range"))
    _check_scales(x_scale, y_scale)
    check_type("plot.averages: series", series, Mapping, "a dict of names and (x, values)")
    if not series:
        raise Error("nothing to plot: there are no series")
    with current():
        figure, (axes,) = new_figure(x_label, y_label, title)
        counts = []
        for look, (name, (x, values)) in zip(_looks(len(series)), series.items(), strict=True):
            x, y_SN = np.asarray(x), _floats(name, values)
            if y_SN.ndim != 2 or x.shape != y_SN.shape[1:]:
                shapes = f"{list(x.shape)} and {list(y_SN.shape)}"
                raise Error(f"{name}: an average is drawn of x [n] and values [S, n], not of {shapes}")
            lengths = [len(x)] * len(y_SN)
            _band(axes, name, np.tile(x, (len(y_SN), 1)), y_SN, lengths, look, average, band)
            counts.append(len(y_SN))
        for axis, scale in ((axes.xaxis, x_scale), (axes.yaxis, y_scale)):
            if scale == "log":
                log_ticks(axis)
        seeds = counted(counts[0], of) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} {of}s"
        add_legend(figure, axes, line_entries(axes), caption=caption_of(seeds, counts, average, band, of))
    return figure


def points(
    points: Mapping[str, tuple[float, float]],
    *,
    x_label: str = "",
    y_label: str = "",
    x_scale: Literal["linear", "log"] = "linear",
    y_scale: Literal["linear", "log"] = "linear",
    title: str = "",
) -> Figure:
    """Single points by name, each with a marker of its own; one that is not a number appears only in the legend.

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

    Raises:
        Error: no points; an unknown scale.
    """
    _check_scales(x_scale, y_scale)
    check_type("plot.points: points", points, Mapping, "a dict of names and (x, y)")
    if not points:
        raise Error("nothing to plot: there are no points")
    with current():
        figure, (axes,) = new_figure(x_label, y_label, title)
        colours = colours_of_style()
        for n, (name, (x, y)) in enumerate(points.items()):
            look: dict[str, Any] = {
                "color": colours[n % len(colours)],
                "marker": MARKERS[n % len(MARKERS)],
                "linestyle": "none",
            }
            axes.plot([x], [y], label=name, **look)
        for axis, scale in ((axes.xaxis, x_scale), (axes.yaxis, y_scale)):
            if scale == "log":
                log_ticks(axis)
        add_legend(figure, axes, line_entries(axes))
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
    with current():
        figure, (axes,) = new_figure(x_label, y_label, title)
        room = _size_by_cells(figure, values.shape) if small else 0.0
        axes.set_facecolor("lightgray")
        finite = np.abs(values[np.isfinite(values)])
        limit = finite.max() if finite.size and np.nanmin(values) < 0 else None
        colours = {"cmap": "viridis"} if limit is None else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        image = axes.imshow(values, aspect="auto", interpolation="nearest", **colours)
        both = "Rows and columns" if rows == columns else ""
        for axis, names, what in ((axes.yaxis, rows, both or "Rows"), (axes.xaxis, columns, both or "Columns")):
            if names is None:
                whole_ticks(axis)
            else:
                width = room if room and (axis is axes.xaxis or both) else None
                axis.set_ticks(range(len(names)), fit_names(figure, names, what, width))
        ticks = axes.get_xticklabels()
        if columns is not None and sum(len(tick.get_text()) + 2 for tick in ticks) > 9 * len(columns):
            for tick in ticks:
                tick.set(rotation=45, ha="right", rotation_mode="anchor")
        figure.colorbar(image, ax=axes, label=label)
        if is_for_paper():
            fit_labels(figure)
        # A number of three digits takes about four times the size of its font.
        if room >= 4 * matplotlib.rcParams["font.size"] * CELL_FONT / 72:
            _write_cells(axes, image, values)
    return figure


def by_lag(norms: Any, bias: Any, fit: Any = None, title: str = "") -> Figure:
    """The norms of the parts of a gradient by lag, and the bias of truncating the gradient, in two panels.

    The upper panel has the norms relative to the norm of lag 0, and a fit of their decay. The line of the fit is drawn
    over the longest range of lags in which it differs from the norms by less than the factor `HOLDS`, which may be
    shorter than the range that was fitted; the legend has both. If there are fewer than three such lags, there is no
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
    """
    norms, bias = _floats("norms", norms), _floats("bias", bias)
    fit = np.full(len(norms), np.nan) if fit is None else _floats("fit", fit)
    k = np.arange(len(norms))
    with current():
        figure, (upper, lower) = new_figure("lag k (steps)", "", title, panels=2)
        upper.set_ylabel("norm of part k,\nrelative to part 0")
        lower.set_ylabel("relative bias if\nonly lags < k are kept")
        marker = _marker(len(k))
        upper.plot(k[:-1], _positive(norms[:-1] / norms[0]), label="part of the gradient from lag k", marker=marker)
        held = _longest(np.abs(np.log(_positive(norms[:-1]) / fit[:-1])) < math.log(HOLDS))
        if held.stop - held.start >= 3:
            factor = math.exp(np.mean(np.diff(np.log(fit[held]))))
            percent = f"{100 * (HOLDS - 1):.0f}\u202f%"
            fitted = np.flatnonzero(~np.isnan(fit))
            label = f"fit to lags {fitted[0]} to {fitted[-1]}: ×{factor:.3g} a step, within {percent}"
            if (fitted[0], fitted[-1]) != (held.start, held.stop - 1):
                label += f" from lag {held.start} to {held.stop - 1}"
            if is_for_paper():
                add_note(figure, label)
                label = "fit"
            upper.plot(k[held], fit[held] / norms[0], "--", color="black", label=label)
        lower.plot(k[1:], _positive(bias), label="_relative bias", marker=marker)
        for axes, values in ((upper, norms), (lower, bias)):
            # An axis without positive values, as for a state that no gradient passes, cannot be logarithmic.
            if (values > 0).any():
                log_ticks(axes.yaxis)
            whole_ticks(axes.xaxis)
        add_legend(figure, upper, line_entries(upper))
    return figure


def _size_by_cells(figure: Figure, shape: tuple[int, ...]) -> float:
    """Makes a figure as large as the cells of a matrix need, if the style allows it; returns the width of a cell."""
    limit, size = figure.get_figwidth(), matplotlib.rcParams["font.size"] / 10
    width = 2.5 + 0.65 * shape[1]
    cell = min(0.65 * size, (limit - 2.5 * size) / shape[1]) if is_for_paper() else 0.65
    height = max(cell, 1.4 * matplotlib.rcParams["ytick.labelsize"] / 72) if is_for_paper() else 0.45 * size
    figure.set_size_inches(limit if is_for_paper() else width, 1.5 * size + height * shape[0])
    return cell


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


def _looks(count: int, factors: tuple[Sequence[str], Sequence[str]] | None = None) -> list[dict[str, Any]]:
    """The colour, line style and width of each line, by two factors if they are given."""
    colours, width = colours_of_style(), matplotlib.rcParams["lines.linewidth"]
    first: Sequence[int]
    if factors is None:
        # After as many lines as there are colours and styles, the same colour gets another style.
        period = math.lcm(len(colours), len(DASHES))
        first, second = range(count), [n + n // period for n in range(count)]
    else:
        first, second = ([list(dict.fromkeys(column)).index(value) for value in column] for column in factors)
    # Variants of one line style may coincide: lines that are drawn first are wider, and so remain visible. In a paper,
    # a reader would look for a meaning in the widths.
    wide = max(first) if factors and not is_for_paper() else 0
    return [
        {
            "color": colours[a % len(colours)],
            "linestyle": DASHES[b % len(DASHES)],
            "linewidth": width * (1 + (wide - a) / wide) if wide else width,
        }
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
) -> np.ndarray:
    """The average over S seeds of the given numbers of epochs, at most N, and the band around it.

    Returns all that was drawn along y, [lines, N].
    """
    x, _, _ = average_and_band(x_SN, lengths, "median", "range")
    y, low, high = average_and_band(y_SN, lengths, average, band)
    # An epoch is drawn if it was evaluated for all seeds that have it.
    known = ~np.isnan(x + y)
    x, y, low, high = x[known], y[known], low[known], high[known]
    if not y.size:
        axes.plot([], [], label=label, **look)
        return np.zeros((0, 0))
    axes.plot(x, y, label=label, marker=_marker(len(x)), **look)
    if np.isnan(low).all():
        return y[None]
    is_range = band == "range" or len(y_SN) == 2
    names = ("lowest", "highest") if is_range else [f"95 % interval of the {average}, {end}" for end in ("low", "high")]
    colour = look["color"]
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=len(x) == 1)
    # The edges are lines as well, so that they are among the data of a saved report. The leading "_" keeps them out
    # of the legend. Where there is a single point, the band has no width, and its ends are dashes.
    for edge, what in zip((low, high), names, strict=True):
        (outline,) = axes.plot(x, edge, color=colour, alpha=0.5, linewidth=0.5, label=f"_{label}, {what}")
        outline.set(linestyle="-", marker="_" if len(x) == 1 else "")
    return np.stack([y, low, high])


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


def _write_cells(axes: Axes, image: Any, values: np.ndarray) -> None:
    """The numbers of a matrix in its cells, white on dark colours and black on light ones."""
    size = CELL_FONT * matplotlib.rcParams["font.size"]
    for (i, j), value in np.ndenumerate(values):
        if not math.isnan(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            # The luminance of a colour, as television weighs it (ITU-R BT.601, rounded).
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=size, color="white" if dark else "black")

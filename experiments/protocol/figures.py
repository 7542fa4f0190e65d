"""The figures of the page of the referee."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import NullFormatter

from seqjax.report import Table
from seqjax.report.figure import STYLE, Figure

from .problems import CONTROLS, TWIN
from .scores import Contender, ProblemScores, price_of
from .statistics import mean_interval

MOST_COLUMNS = 4
COLUMNS = ("name", "x", "y")
"""The columns of the tables of the figures."""
COLOURS = matplotlib.color_sequences["tab10"]
NETWORK_SIZE = 3.3
"""The width of a panel of a network, in inches."""


@matplotlib.rc_context(STYLE)
def score_by_task(problems: list[ProblemScores]) -> Figure:
    """A map of the scores: a row for each strategy, and a column for each problem."""
    names = _names(problems)
    scores = np.array([[_mean_score(problem, name) for problem in problems] for name in names])
    figure = Figure(figsize=(0.9 * len(problems) + 2.6, 0.34 * len(names) + 1.5), layout="constrained")
    axis = figure.subplots()
    columns = [problem.name.replace(", ", "\n") for problem in problems]
    figure.table = Table(COLUMNS, _map(axis, scores, names, columns))
    return figure


@matplotlib.rc_context(STYLE)
def score_by_window(problems: list[ProblemScores]) -> Figure:
    """A map for each network: a row for each strategy, and a column for each length of the windows, by rows."""
    networks = list(dict.fromkeys(problem.problem.network for problem in problems))
    strategies = list(dict.fromkeys(name for each in problems for name, _ in each.strategies.values()))
    strategies = [name for name in strategies if name not in CONTROLS]
    drawn: list[tuple[Any, ...]] = []
    figure = Figure(figsize=(NETWORK_SIZE * len(networks) + 1, 0.34 * len(strategies) + 1.8), layout="constrained")
    for axis, network in zip(figure.subplots(1, len(networks), sharey=True, squeeze=False)[0], networks, strict=True):
        group = [problem for problem in problems if problem.problem.network == network]
        columns = dict.fromkeys((each.problem.rows, length) for each in group for length in each.problem.lengths)
        scores = np.full((len(strategies), len(columns)), np.nan)
        for y, strategy in enumerate(strategies):
            for x, (rows, window) in enumerate(columns):
                of_rows = [each for each in group if each.problem.rows == rows]
                found = [_mean_score(each, each.contender(strategy, window)) for each in of_rows]
                scores[y, x] = np.mean(found)
        several = len({rows for rows, _ in columns}) > 1
        names = [f"{window}\n{rows} row{'s' * (rows > 1)}" if several else str(window) for rows, window in columns]
        drawn += _map(axis, scores, strategies, names)
        axis.set_title(network, fontsize=9)
        axis.set_xlabel("window (steps)", fontsize=8)
    figure.table = Table(COLUMNS, drawn)
    return figure


@matplotlib.rc_context(STYLE)
def score_against_price(problems: list[ProblemScores]) -> Figure:
    """The score against core-seconds and against bytes; several windows of one strategy are joined by a line."""
    networks = list(dict.fromkeys(problem.problem.network for problem in problems))
    figure = Figure(figsize=(2.6 * len(networks) + 2.2, 5.4), layout="constrained")
    grid, styles = figure.subplots(2, len(networks), sharey=True, squeeze=False), _styles(problems)
    legend: dict[str, Any] = {}
    drawn: list[tuple[Any, ...]] = []
    labels = {"seconds": "core-seconds of a run", "bytes": "bytes carried, and of temporaries"}
    for column, network in enumerate(networks):
        group = [problem for problem in problems if problem.problem.network == network]
        for axis, what in zip(grid[:, column], labels, strict=True):
            for strategy, (color, style) in styles.items():
                found: dict[str, Any] = {}
                if strategy in CONTROLS:
                    continue
                for name in dict.fromkeys(name for each in group for name in each.contenders):
                    having = [each for each in group if name in each.contenders]
                    if having[0].strategies[name][0] == strategy and len(having) == len(_with(group, name)):
                        prices = [price_of(each, name, what) for each in having]
                        stacked = np.stack([each.score(name) for each in having])
                        found[name] = np.exp(np.log(prices).mean()), mean_interval(stacked)
                for name, (x, interval) in found.items():
                    axis.annotate(
                        name.partition("@ ")[2], (x, interval.value), (3, 3), textcoords="offset points", size=6
                    )
                    axis.plot([x, x], [interval.low, interval.high], color=color, linewidth=0.8, label="_interval")
                    drawn += [("interval", x, interval.low), ("interval", x, interval.high)]
                xs, ys = [x for x, _ in found.values()], [interval.value for _, interval in found.values()]
                drawn += [(strategy, *point) for point in zip(xs, ys, strict=True)]
                fill = "full" if style == "-" else "none"
                if xs:
                    (legend[strategy],) = axis.plot(
                        xs, ys, color=color, marker="o", markersize=4, fillstyle=fill, linewidth=0.8, label=strategy
                    )
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(labels[what], fontsize=8)
        grid[0, column].set_title(network or "without a network", fontsize=9)
    figure.supylabel("score")
    figure.legend(list(legend.values()), list(legend), loc="outside right upper", fontsize=8)
    figure.table = Table(COLUMNS, drawn)
    return figure


def score_along_core_seconds(problems: list[ProblemScores]) -> Figure:
    """The score along the core-seconds of a run."""

    def line(problem: ProblemScores, name: str, runs: Contender) -> Any:
        curves = runs.curves()
        ends = np.arange(1, curves.shape[1] + 1) / curves.shape[1]
        scores = problem.relative(np.where(np.isfinite(curves), curves, np.inf).T)
        return problem.seconds(name) * ends, scores.mean(1)

    return _panels(problems, line, "core-seconds, without compiling and optimizer")


def score_by_learning_rate(problems: list[ProblemScores]) -> Figure:
    """The mean score against the learning rate, with the first clip."""

    def line(problem: ProblemScores, name: str, runs: Contender) -> Any:
        clip = runs.candidates[0].clip
        rates = {each.rate: n for n, each in enumerate(runs.candidates) if each.clip == clip}
        scores = problem.relative(runs.tails()).mean(1)
        return sorted(rates), [scores[rates[rate]] for rate in sorted(rates)]

    return _panels(problems, line, "learning rate")


def _mean_score(problem: ProblemScores, name: str) -> float:
    return float(problem.score(name).mean()) if name in problem.contenders else np.nan


def _map(axis: Any, scores: np.ndarray, names: list[str], columns: list[str]) -> list[tuple[Any, ...]]:
    """A map with numbers; empty where a strategy does not take a problem. Returns the rows of its table."""
    axis.imshow(scores, cmap="viridis_r", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    for (y, x), score in np.ndenumerate(scores):
        if np.isfinite(score):
            color = "white" if score > 0.5 else "black"
            axis.text(x, y, f"{score:.2f}".replace("0.", "."), ha="center", va="center", fontsize=7, color=color)
    return [(names[y], columns[x], score.item()) for (y, x), score in np.ndenumerate(scores)]


@matplotlib.rc_context(STYLE)
def _panels(
    problems: list[ProblemScores], line: Callable[[ProblemScores, str, Contender], Any], x_label: str
) -> Figure:
    """A panel for each problem with a line for each strategy, with its longest window."""
    columns = min(MOST_COLUMNS, len(problems))
    rows = -(-len(problems) // columns)
    figure = Figure(figsize=(2.4 * columns + 1.8, 2.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    styles = _styles(problems)
    legend: dict[str, Any] = {}
    drawn: list[tuple[Any, ...]] = []
    for axis, problem in zip(axes, problems, strict=False):
        for name, runs in problem.contenders.items():
            strategy, _ = problem.strategies[name]
            color, style = styles[strategy]
            x, y = line(problem, name, runs)
            label = f"{problem.name}, {name}"
            (legend[strategy],) = axis.plot(x, y, label=label, color=color, linestyle=style, linewidth=1)
            drawn += [(label, *point) for point in zip(x, y, strict=True)]
        axis.set_title(problem.name, fontsize=8)
        axis.set_xscale("log")
        axis.set_ylim(-0.05, 1.05)
    for axis in axes[len(problems) :]:
        axis.remove()
    figure.legend(list(legend.values()), list(legend), loc="outside right upper", fontsize=7)
    figure.supxlabel(x_label)
    figure.supylabel("score")
    figure.table = Table(COLUMNS, drawn)
    return figure


def _with(problems: list[ProblemScores], name: str) -> list[ProblemScores]:
    """The problems that have the window of a contender; problems with a single window have one of their own."""
    length = next(each.strategies[name][1] for each in problems if name in each.strategies)
    return [each for each in problems if len(each.problem.lengths) == 1 or length in each.problem.lengths]


def _styles(problems: list[ProblemScores]) -> dict[str, tuple[Any, str]]:
    """The color and the line style of each strategy, the same in all figures with a legend."""
    names = dict.fromkeys(name for problem in problems for name, _ in problem.strategies.values() if name != TWIN)
    return {name: (COLOURS[n % 10], "-" if n < 10 else "--") for n, name in enumerate(names)} | {TWIN: ("0.6", ":")}


def _names(problems: list[ProblemScores]) -> list[str]:
    """The strategies without controls, those with low scores first."""
    names = dict.fromkeys(name for problem in problems for name in problem.contenders)
    kept = [name for name in names if name not in CONTROLS]
    return sorted(kept, key=lambda name: np.nanmean([_mean_score(problem, name) for problem in problems]))

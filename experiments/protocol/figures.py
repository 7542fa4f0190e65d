"""The figures of the page of the referee."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .scores import FROZEN, REFERENCE, RunsOfStrategy, TaskScores, at_equal_updates, bounded
from .statistics import iqm, score_interval
from .tables import mean_price

MOST_COLUMNS = 4


def score_by_task(problems: list[TaskScores]) -> Figure:
    """The score of each strategy on each problem, with its interval."""
    names = _strategies(problems)
    names.remove(FROZEN)
    # The label below a single problem is wider than the problem.
    figure = Figure(figsize=(max(1.25 * len(problems) + 1.5, 4.5), 0.3 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(problems), sharey=True, squeeze=False)[0]
    for axis, problem in zip(axes, problems, strict=True):
        for y, name in enumerate(names):
            if name in problem.runs:
                interval = score_interval(problem.runs[name].tuned[None])
                axis.plot([interval.low, interval.high], [y, y], color="C0", label=f"_{name}, interval")
                axis.plot([interval.value], [y], "o", color="C0", markersize=4, label=f"_{name}")
        axis.set_title(f"{problem.name.replace(', ', ',\n')}\n{problem.status.split(':')[0]}", fontsize=8)
        for edge in (0, 1):
            axis.axvline(edge, color="0.8", zorder=0, label=f"_score {edge}")
        axis.set_xlim(-0.25, 1.1)
        axis.set_xticks([0, 1])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.supxlabel("score: 0 the floor, 1 a recurrence that is not trained")
    return figure


def score_against_price(problems: list[TaskScores]) -> Figure:
    """The score over all problems that count against the price of an update."""
    # A legend has the names, since labels beside the points overlapped and left the figure.
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axis = figure.subplots()
    styles = _styles(problems)
    for name, scores in at_equal_updates(problems).items():
        interval, price = score_interval(scores), mean_price(problems, name)
        color, style = styles[name]
        ends = [interval.low, interval.high]
        axis.plot([price, price], ends, color=color, label=f"_{name}, interval")
        # A point has no line style: it is hollow where the line of the other figures is dashed.
        fill = "full" if style == "-" else "none"
        axis.plot([price], [interval.value], "o", color=color, fillstyle=fill, label=name)
    figure.legend(loc="outside right upper", fontsize=8)
    axis.set_xscale("log")
    axis.set_xlabel(f"price of an update, {REFERENCE} = 1 (geometric mean over tasks)")
    axis.set_ylabel("score")
    return figure


def score_along_core_seconds(problems: list[TaskScores]) -> Figure:
    """The score along the core-seconds of a run."""

    def line(problem: TaskScores, name: str, runs: RunsOfStrategy) -> Any:
        ends = np.arange(1, runs.blocks.shape[1] + 1) / runs.blocks.shape[1]
        return problem.updates * problem.measures[name]["seconds"] * ends, iqm(bounded(runs.blocks).T)

    return _panels(problems, line, "core-seconds, without compiling")


def score_by_learning_rate(problems: list[TaskScores]) -> Figure:
    """The score against the learning rate, with the seeds of tuning."""
    return _panels(problems, lambda _problem, _name, runs: (runs.rates, runs.tuning), "learning rate")


def _panels(problems: list[TaskScores], line: Callable[[TaskScores, str, RunsOfStrategy], Any], x_label: str) -> Figure:
    """A panel for each problem with a line for each strategy."""
    columns = min(MOST_COLUMNS, len(problems))
    rows = -(-len(problems) // columns)
    figure = Figure(figsize=(2.4 * columns + 1.8, 2.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    styles = _styles(problems)
    legend: dict[str, Any] = {}
    for axis, problem in zip(axes, problems, strict=False):
        for name, runs in problem.runs.items():
            color, style = styles[name]
            x, y = line(problem, name, runs)
            (legend[name],) = axis.plot(x, y, label=name, color=color, linestyle=style, linewidth=1)
        axis.set_title(problem.name, fontsize=8)
        axis.set_xscale("log")
        axis.set_ylim(-0.05, 1.05)
    for axis in axes[len(problems) :]:
        axis.remove()
    figure.legend(list(legend.values()), list(legend), loc="outside right upper", fontsize=7)
    figure.supxlabel(x_label)
    figure.supylabel("score")
    return figure


def _styles(problems: list[TaskScores]) -> dict[str, tuple[str, str]]:
    """The color and the line style of each strategy, the same in all figures with a legend."""
    return {name: (f"C{n % 10}", "-" if n < 10 else "--") for n, name in enumerate(_strategies(problems))}


def _strategies(problems: list[TaskScores]) -> list[str]:
    return list(dict.fromkeys(name for problem in problems for name in problem.runs))

"""The page of the referee: tables, figures, and sentences each of which follows from an interval."""

import itertools
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import seqjax as sj
from seqjax.report import Table

from .claims import claims
from .scores import IMMEDIATE, REFERENCE, Scores, at_cost, updates_to
from .stages import FROZEN, Stages
from .statistics import MARGIN, Interval, Verdict, improvement, iqm, iqm_interval, rank_intervals, verdicts

TARGET = 0.5
"""The score whose time is reported: half of what can be learned has been learned."""


def fill(report: sj.Report, stages: Stages, scores: Scores, measured: dict[str, dict[str, Any]]) -> None:
    """Adds all tables and figures.

    Args:
        report: the page.
        stages: what was run.
        scores: the scores.
        measured: problem -> strategy -> its measures.
    """
    complete = {name: each for name, each in scores.complete().items() if name != FROZEN}
    report.table("tasks", admission_table(scores))
    if complete:
        report.table("ranking", ranking_table(complete, scores, measured))
        report.table("pairs", pairs_table(complete))
    report.table("by_task", by_task_table(scores))
    report.table("against_full", against_reference_table(scores))
    report.table("claims", claims(scores))
    report.table("cost", cost_table(stages, scores, measured))
    report.table("tuning", tuning_table(scores))
    report.table("bias_and_variance", measures_table(scores, measured))
    if refused := refused_table(scores):
        report.table("not_applicable", refused)
    report.figure("score_by_task", score_figure(scores))
    if complete:
        report.figure("score_against_price", price_figure(complete, scores, measured))
    report.figure("score_along_core_seconds", cost_figure(stages, scores, measured))
    report.figure("score_by_learning_rate", tuning_figure(scores))


def setting(stages: Stages) -> str:
    """What was compared, as a sentence."""
    settings = stages.settings
    models = " and ".join(f"`{name}`" for name in stages.models)
    return (
        f"{len(stages.strategies) - 1} strategies trained {models} with {settings.updates:,} updates and the seeds "
        f"{settings.seeds[0]} to {settings.seeds[-1]}, with seqjax {sj.__version__} and jax {jax.__version__}."
    )


def sentences(scores: Scores) -> str:
    """What the intervals say, as Markdown: a list of sentences."""
    lines = []
    for name, problem in scores.problems.items():
        if problem.status.startswith("not"):
            lines.append(f"**{name} does not count**: {problem.status.removeprefix('not admitted: ')}.")
    complete = {name: each for name, each in scores.complete().items() if name != FROZEN}
    if not complete:
        return "\n".join(f"- {line}" for line in [*lines, "No task is admitted, so that nothing follows."])
    names = ", ".join(scores.admitted)
    lines.append(f"These count: {names}.")
    ranks = rank_intervals(complete)
    best = [name for name, rank in ranks.items() if rank.low < 1.5]
    if len(best) == 1:
        lines.append(f"Only `{best[0]}` has a rank interval that begins at 1.")
    else:
        lines.append(f"These may be first, since their rank intervals begin at 1: {_listed(best)}.")
    found = over_all_tasks(complete)
    for word, text in (("better", "better than"), ("tie", f"tied with (within ± {MARGIN})"), ("worse", "worse than")):
        if group := [f"`{name}` {each.difference}" for name, each in found.items() if each.word == word]:
            lines.append(
                f"Over these tasks, {text} `{REFERENCE}`, by the difference of the scores: {', '.join(group)}."
            )
    if group := [f"`{name}` {each.difference}" for name, each in found.items() if each.word == "undecided"]:
        lines.append(f"Undecided against `{REFERENCE}`: {', '.join(group)}.")
    for name, problem in scores.problems.items():
        if problem.status != "control":
            continue
        words = against_reference(scores, name)
        ties = [each for each, verdict in words.items() if verdict.word == "tie"]
        others = [
            f"`{each}` {verdict.word} {verdict.difference}" for each, verdict in words.items() if verdict.word != "tie"
        ]
        rest = f"; not tied: {', '.join(others)}" if others else ""
        lines.append(f"On the control {name}, {len(ties)} of {len(words)} strategies tie with `{REFERENCE}`{rest}.")
    return "\n".join(f"- {line}" for line in lines)


def over_all_tasks(complete: dict[str, np.ndarray]) -> dict[str, Verdict]:
    """The verdicts of all strategies against the reference over the tasks that count, one family of comparisons."""
    return verdicts({name: (each, complete[REFERENCE]) for name, each in complete.items() if name != REFERENCE})


def admission_table(scores: Scores) -> Table:
    """What the tasks are, and which of them count."""
    rows = []
    for name, problem in scores.problems.items():
        levels = [str(problem.losses[each]) for each in (FROZEN, IMMEDIATE, REFERENCE)]
        rows.append((name, f"{problem.floor:.4f}", f"{problem.reference:.4f}", *levels, problem.status))
    loss = "loss of {} (95 % interval)"
    columns = (
        "task",
        "score 0 at",
        "score 1 at",
        *(loss.format(each) for each in (FROZEN, IMMEDIATE, REFERENCE)),
        "counts",
    )
    return Table(columns, rows)


def ranking_table(complete: dict[str, np.ndarray], scores: Scores, measured: dict[str, dict[str, Any]]) -> Table:
    """All strategies over the admitted tasks, by interquartile mean."""
    ranks, rows, found = rank_intervals(complete), [], over_all_tasks(complete)
    for name, each in sorted(complete.items(), key=lambda item: float(iqm(item[1].ravel()))):
        versus = ("", "", "", "")
        if name != REFERENCE:
            verdict = found[name]
            versus = (
                str(improvement(each, complete[REFERENCE])),
                str(verdict.difference),
                f"{verdict.p:.2g}",
                verdict.word,
            )
        rank = ranks[name]
        rows.append(
            (
                name,
                str(iqm_interval(each)),
                f"{rank.value:g} ({rank.low:g} to {rank.high:g})",
                *versus,
                _price(name, scores.admitted, measured),
            )
        )
    columns = (
        "strategy",
        "score (95 % interval)",
        "rank (95 % interval)",
        f"probability of a lower score than {REFERENCE}",
        f"score less that of {REFERENCE}",
        "p, Holm",
        f"against {REFERENCE}",
        f"price of an update, {REFERENCE} = 1",
    )
    return Table(columns, rows)


def pairs_table(complete: dict[str, np.ndarray]) -> Table:
    """Each strategy (row) against each other one (column), one family of comparisons."""
    found = verdicts({f"{a}|{b}": (complete[a], complete[b]) for a, b in itertools.combinations(complete, 2)})
    opposite = {"better": "worse", "worse": "better"}

    def cell(a: str, b: str) -> str:
        if a == b:
            return ""
        if f"{a}|{b}" in found:
            return found[f"{a}|{b}"].word
        word = found[f"{b}|{a}"].word
        return opposite.get(word, word)

    return Table(("", *complete), [(a, *(cell(a, b) for b in complete)) for a in complete])


def by_task_table(scores: Scores) -> Table:
    """The interquartile mean of each strategy on each task."""
    names = list(dict.fromkeys(strategy for each in scores.tuned.values() for strategy in each))
    rows = []
    for strategy in names:
        cells = [
            str(iqm_interval(scores.tuned[name][strategy][None])) if strategy in scores.tuned[name] else "–"
            for name in scores.problems
        ]
        rows.append((strategy, *cells))
    return Table(("strategy", *scores.problems), rows)


def against_reference(scores: Scores, problem: str) -> dict[str, Verdict]:
    """The verdicts of all strategies against the reference on one task, one family of comparisons."""
    tuned = scores.tuned[problem]
    return verdicts(
        {name: (each[None], tuned[REFERENCE][None]) for name, each in tuned.items() if name not in (REFERENCE, FROZEN)}
    )


def against_reference_table(scores: Scores) -> Table:
    """The verdicts on each task alone."""
    rows = []
    for name, problem in scores.problems.items():
        for strategy, verdict in against_reference(scores, name).items():
            rows.append(
                (
                    name,
                    problem.status.split(":")[0],
                    strategy,
                    str(verdict.difference),
                    f"{verdict.p:.2g}",
                    verdict.word,
                )
            )
    return Table(
        ("task", "counts", "strategy", f"score less that of {REFERENCE}", "p, Holm", f"against {REFERENCE}"), rows
    )


def cost_table(stages: Stages, scores: Scores, measured: dict[str, dict[str, Any]]) -> Table:
    """The price of an update, the score at equal cost, and the time to a score of one half."""
    updates, rows = stages.settings.updates, []
    for name in scores.problems:
        prices = {strategy: each["seconds"] for strategy, each in measured[name].items()}
        budget = updates * prices[REFERENCE]
        for strategy, blocks in scores.blocks[name].items():
            price = prices[strategy]
            needed = updates_to(blocks, TARGET, updates)
            rows.append(
                (
                    name,
                    strategy,
                    f"{1e3 * price:.3g}",
                    str(iqm_interval(at_cost(blocks, price, budget, updates)[None])),
                    "–" if needed == np.inf else f"{needed:g}",
                    "–" if needed == np.inf else f"{needed * price:.3g}",
                )
            )
    columns = (
        "task",
        "strategy",
        "price of an update (ms)",
        f"score after the core-seconds of {updates:,} updates of {REFERENCE}",
        f"updates to a score of {TARGET}",
        f"core-seconds to a score of {TARGET}",
    )
    return Table(columns, rows)


def tuning_table(scores: Scores) -> Table:
    """The learning rate that was chosen, and what the budget of a single rate costs."""
    rows = []
    for name in scores.problems:
        for strategy, rate in scores.rates[name].items():
            tuned, untuned = (str(iqm_interval(each[name][strategy][None])) for each in (scores.tuned, scores.untuned))
            rows.append((name, strategy, f"{rate:.3g}", tuned, untuned))
    return Table(("task", "strategy", "learning rate", "score with it", "score without tuning"), rows)


def measures_table(scores: Scores, measured: dict[str, dict[str, Any]]) -> Table:
    """Bias and variance at the initial parameters beside the score."""
    rows = []
    for name in scores.problems:
        for strategy, each in measured[name].items():
            if strategy not in scores.tuned[name]:
                continue
            score = float(iqm(scores.tuned[name][strategy]))
            numbers = (each[column] for column in ("history_bias", "history_bias_error", "variance", "cosine"))
            rows.append(
                (name, strategy, *("–" if number is None else f"{number:.3g}" for number in numbers), f"{score:.3f}")
            )
    return Table(("task", "strategy", "bias", "its standard error", "variance", "cosine", "score"), rows)


def refused_table(scores: Scores) -> Table | None:
    """The strategies that do not take a task."""
    rows = [(name, strategy, why) for name, each in scores.refused.items() for strategy, why in each.items()]
    return Table(("task", "strategy", "why"), rows) if rows else None


def score_figure(scores: Scores) -> Figure:
    """The score of each strategy on each task, with its interval."""
    names = [name for name in dict.fromkeys(s for each in scores.tuned.values() for s in each) if name != FROZEN]
    figure = Figure(figsize=(9, 0.35 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(scores.problems), sharey=True, squeeze=False)[0]
    for axis, (name, problem) in zip(axes, scores.problems.items(), strict=True):
        for y, strategy in enumerate(names):
            if strategy in scores.tuned[name]:
                _point(axis, iqm_interval(scores.tuned[name][strategy][None]), y)
        axis.set_title(f"{name}\n{problem.status.split(':')[0]}", fontsize=8)
        axis.axvline(0, color="0.8", zorder=0)
        axis.axvline(1, color="0.8", zorder=0)
        axis.set_xlim(-0.1, 1.1)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.supxlabel("score: 0 the floor, 1 a recurrence that is not trained")
    return figure


def price_figure(complete: dict[str, np.ndarray], scores: Scores, measured: dict[str, dict[str, Any]]) -> Figure:
    """The score over all tasks that count against the price of an update."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name, each in complete.items():
        interval, price = iqm_interval(each), float(_price(name, scores.admitted, measured))
        axis.errorbar(
            price,
            interval.value,
            [[interval.value - interval.low], [interval.high - interval.value]],
            fmt="o",
            color="C0",
            label=f"_{name}",
        )
        axis.annotate(name, (price, interval.value), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set_xscale("log")
    axis.set_xlabel(f"price of an update, {REFERENCE} = 1 (geometric mean over tasks)")
    axis.set_ylabel("score")
    return figure


def cost_figure(stages: Stages, scores: Scores, measured: dict[str, dict[str, Any]]) -> Figure:
    """The score along the core-seconds of a run."""
    return _panels(
        scores,
        lambda name, strategy: (
            measured[name][strategy]["seconds"]
            * stages.settings.updates
            * (np.arange(scores.blocks[name][strategy].shape[1]) + 1)
            / scores.blocks[name][strategy].shape[1],
            iqm(scores.blocks[name][strategy].T),
        ),
        "core-seconds, without compiling",
    )


def tuning_figure(scores: Scores) -> Figure:
    """The score against the learning rate, with the seeds of tuning."""
    return _panels(scores, lambda name, strategy: scores.tuning[name][strategy], "learning rate")


def _panels(scores: Scores, line: Any, x_label: str) -> Figure:
    """A panel for each task with a line for each strategy."""
    columns = min(4, len(scores.problems))
    rows = -(-len(scores.problems) // columns)
    figure = Figure(figsize=(2.6 * columns + 1.4, 2.3 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    strategies = list(dict.fromkeys(s for each in scores.tuned.values() for s in each))
    for axis, name in zip(axes, scores.problems, strict=False):
        for n, strategy in enumerate(strategies):
            if strategy in scores.tuned[name]:
                axis.plot(
                    *line(name, strategy),
                    label=strategy,
                    color=f"C{n % 10}",
                    linestyle="-" if n < 10 else "--",
                    linewidth=1,
                )
        axis.set_title(name, fontsize=8)
        axis.set_xscale("log")
        axis.set_ylim(-0.05, 1.05)
    for axis in axes[len(scores.problems) :]:
        axis.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=7)
    figure.supxlabel(x_label)
    figure.supylabel("score")
    return figure


def _point(axis: Any, interval: Interval, y: float) -> None:
    axis.plot([interval.low, interval.high], [y, y], color="C0", label="_interval")
    axis.plot([interval.value], [y], "o", color="C0", markersize=4, label="_score")


def _price(strategy: str, problems: list[str], measured: dict[str, dict[str, Any]]) -> str:
    """The price of an update in those of the reference, the geometric mean over problems."""
    ratios = [measured[name][strategy]["seconds"] / measured[name][REFERENCE]["seconds"] for name in problems]
    return f"{np.exp(np.mean(np.log(ratios))):.2g}"


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

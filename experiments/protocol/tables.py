"""The tables of the page of the referee."""

import inspect
from collections.abc import Callable

import numpy as np

from seqjax.report import Table

from .conclusions import against_full, all_pairs, on_problem
from .scores import FROZEN, IMMEDIATE, REFERENCE, TaskScores, admitted, at_equal_cost, at_equal_updates, updates_to
from .stages import Stages
from .statistics import improvement, iqm, rank_intervals, score_interval, score_over_tasks

TARGET = 0.5
"""The score whose time is reported: half of what can be learned has been learned."""
NONE = "–"


def strategies(stages: Stages) -> Table:
    """What the strategies are: the first paragraphs of their docstrings."""
    texts = {name: inspect.getdoc(type(each)) or "" for name, each in stages.strategies.items()}
    return Table(
        ("strategy", "what it is"), [(name, text.split("\n\n")[0].replace("\n", " ")) for name, text in texts.items()]
    )


def tasks(problems: list[TaskScores]) -> Table:
    """What the tasks are, and which of them count."""
    compared = (FROZEN, IMMEDIATE, REFERENCE)
    rows = [
        (
            problem.name,
            problem.task.window,
            problem.task.rows,
            f"{problem.floor:.4f}",
            f"{problem.unit:.4f}",
            *(str(problem.losses[name]) for name in compared),
            problem.status,
        )
        for problem in problems
    ]
    losses = (f"loss of {name} (95 % interval)" for name in compared)
    return Table(("task", "window (steps)", "rows", "score 0 at", "score 1 at", *losses, "counts"), rows)


def ranking(problems: list[TaskScores]) -> Table:
    """All strategies over the problems that count, by their scores."""
    scores = at_equal_updates(problems)
    ranks, found, paid, rows = rank_intervals(scores), against_full(scores), at_equal_cost(problems), []
    for name, each in sorted(scores.items(), key=lambda item: score_over_tasks(item[1])):
        versus = ("", "", "", "")
        if name != REFERENCE:
            wins, verdict = improvement(each, scores[REFERENCE]), found[name]
            versus = (str(wins), str(verdict.difference), f"{verdict.p:.2g}", verdict.word)
        rank = ranks[name]
        rank_text = f"{rank.value:g} ({rank.low:g} to {rank.high:g})"
        price = _rounded(mean_price(problems, name), 2)
        rows.append((name, str(score_interval(each)), rank_text, *versus, price, str(score_interval(paid[name]))))
    columns = (
        "strategy",
        "score (95 % interval)",
        "rank (95 % interval)",
        f"probability of a lower score than {REFERENCE}",
        f"score minus that of {REFERENCE}",
        "p, Holm",
        f"against {REFERENCE}",
        f"price of an update, {REFERENCE} = 1",
        f"score after the core-seconds of {REFERENCE}",
    )
    return Table(columns, rows)


def pairs(problems: list[TaskScores]) -> Table:
    """Each strategy (row) against each other one (column), one family of comparisons."""
    scores = at_equal_updates(problems)
    found = all_pairs(scores)
    return Table(("", *scores), [(a, *("" if a == b else found[a, b].word for b in scores)) for a in scores])


def differences(problems: list[TaskScores]) -> Table:
    """The numbers behind `pairs`, in both directions."""
    found = all_pairs(at_equal_updates(problems))
    rows = [(a, b, str(each.difference), f"{each.p:.2g}", each.word) for (a, b), each in found.items()]
    return Table(("strategy", "other", "score minus that of the other", "p, Holm", "verdict"), sorted(rows))


def scores_by_task(problems: list[TaskScores]) -> Table:
    """The interquartile mean of each strategy on each problem."""
    return _by_task(problems, lambda problem, name: str(score_interval(problem.runs[name].tuned[None])))


def verdicts_by_task(problems: list[TaskScores]) -> Table:
    """The verdict of each strategy against `full` on each problem."""
    found = {problem.name: on_problem(problem) for problem in problems}

    def word(problem: TaskScores, name: str) -> str:
        return found[problem.name][name].word if found[problem.name] else NONE

    return _by_task(problems, word, without=(FROZEN, REFERENCE))


def one_task(problem: TaskScores) -> Table:
    """All that was measured on one problem."""
    found, rows = on_problem(problem), []
    for name, runs in problem.runs.items():
        verdict, measures = found.get(name), problem.measures[name]
        versus = (str(verdict.difference), f"{verdict.p:.2g}", verdict.word) if verdict else ("", "", "")
        price, needed = measures["seconds"], updates_to(runs.blocks, TARGET, problem.updates)
        rows.append(
            (
                name,
                str(score_interval(runs.tuned[None])),
                *versus,
                problem.diverged(name),
                f"{runs.rate:.2g}",
                f"{iqm(runs.untuned):z.3f}",
                _rounded(1e3 * price, 3),
                f"{iqm(problem.at_equal_cost(name)):z.3f}" if problem.blocks_at_equal_cost(name) else "1 (set)",
                f"{needed:g} ({needed * price:.2g})" if np.isfinite(needed) else NONE,
                _number(measures["history_bias"], measures["history_bias_error"]),
                _number(measures["variance"]),
                _number(measures["cosine"]),
            )
        )
    columns = (
        "strategy",
        "score (95 % interval)",
        f"score minus that of {REFERENCE}",
        "p, Holm",
        f"against {REFERENCE}",
        "runs that diverged",
        "learning rate",
        "score without tuning",
        "price of an update (ms)",
        f"score after the core-seconds of {REFERENCE}",
        f"updates (core-seconds) to a score of {TARGET}",
        "bias",
        "variance",
        "cosine",
    )
    return Table(columns, rows)


def refused(problems: list[TaskScores]) -> Table | None:
    """The strategies that do not take a problem; None: there are none."""
    rows = [(problem.name, name, why) for problem in problems for name, why in problem.refused.items()]
    return Table(("task", "strategy", "why"), rows) if rows else None


def mean_price(problems: list[TaskScores], strategy: str) -> float:
    """The price of an update in those of `full`, the geometric mean over the problems that count."""
    seconds = [[each.measures[name]["seconds"] for name in (strategy, REFERENCE)] for each in admitted(problems)]
    return float(np.exp(np.diff(-np.log(seconds)).mean()))


def _by_task(
    problems: list[TaskScores], cell: Callable[[TaskScores, str], str], without: tuple[str, ...] = ()
) -> Table:
    names = dict.fromkeys(name for problem in problems for name in problem.runs if name not in without)
    rows = [(name, *(cell(each, name) if name in each.runs else NONE for each in problems)) for name in names]
    return Table(("strategy", *(problem.name for problem in problems)), rows)


def _rounded(value: float, digits: int) -> str:
    """A number with so many digits that count, and without an exponent of ten unless it is very large or small."""
    return f"{float(f'{value:.{digits}g}'):g}"


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return NONE
    return f"{value:.2g} ± {error:.1g}" if error else f"{value:.2g}"

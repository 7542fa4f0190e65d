"""What the scores say about the strategies: verdicts, and sentences each of which follows from an interval."""

import itertools
from collections.abc import Sequence

import numpy as np

from .scores import FROZEN, REFERENCE, TaskScores, admitted, at_equal_cost, at_equal_updates
from .statistics import LEVEL, MARGIN, Verdict, least_p, rank_intervals, score_interval, score_over_tasks, verdicts

TEXTS = {"better": "Better than", "tie": "Tied with", "worse": "Worse than", "undecided": "Undecided against"}
"""The verdicts as the beginning of a sentence."""
QUIET = 0.9
"""The least share of the time of its core that a process must have for its prices to be believed."""


def sentences(problems: list[TaskScores], about: Sequence[str] = ()) -> str:
    """What the intervals say, as Markdown: a list of sentences.

    Args:
        problems: the problems.
        about: the strategies that come first, with their verdicts against all others.
    """
    lines = _about(problems, about) if about and admitted(problems) else []
    lines += [
        f"**{problem.name} does not count**: {problem.status.removeprefix('not admitted: ')}."
        for problem in problems
        if problem.status.startswith("not")
    ]
    if counted := admitted(problems):
        lines.append(f"These tasks count: {'; '.join(problem.name for problem in counted)}.")
        lines += _over_all(at_equal_updates(problems), "With equally many updates")
        lines += _over_all(at_equal_cost(problems), "With equally many core-seconds")
        lines += _not_paid(counted)
        lines += _cannot_decide(problems)
    else:
        lines.append("No task is admitted, so that nothing follows.")
    lines += [_on_control(problem) for problem in problems if problem.status == "control"]
    lines += [*filter(None, map(_diverged, problems)), *filter(None, map(_disturbed, problems))]
    return "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)


def against_full(scores: dict[str, np.ndarray]) -> dict[str, Verdict]:
    """The verdicts of all strategies against `full` over the problems that count, one family of comparisons."""
    return verdicts({name: (each, scores[REFERENCE]) for name, each in scores.items() if name != REFERENCE})


def on_problem(problem: TaskScores) -> dict[str, Verdict]:
    """The verdicts of all strategies against `full` on one problem, one family of comparisons.

    There are none on a task that is not admitted, which tells nothing.
    """
    if problem.status not in ("admitted", "control"):
        return {}
    tuned = {name: runs.tuned[None] for name, runs in problem.runs.items()}
    return verdicts({name: (each, tuned[REFERENCE]) for name, each in tuned.items() if name not in (REFERENCE, FROZEN)})


def all_pairs(scores: dict[str, np.ndarray]) -> dict[tuple[str, str], Verdict]:
    """The verdict of each strategy against each other one over the problems that count, one family of comparisons."""
    found = verdicts({(a, b): (scores[a], scores[b]) for a, b in itertools.combinations(scores, 2)})
    return found | {(b, a): verdict.mirrored() for (a, b), verdict in found.items()}


def _about(problems: list[TaskScores], names: Sequence[str]) -> list[str]:
    """The score, the rank and the verdicts of these strategies."""
    scores = at_equal_updates(problems)
    found, ranks, lines = all_pairs(scores), rank_intervals(scores), []
    for name in names:
        if name not in scores:
            lines.append(f"`{name}` does not take all tasks that count, and has no rank.")
            continue
        rank = ranks[name]
        lines.append(
            f"`{name}` has the score {score_interval(scores[name])} with equally many updates, and the rank "
            f"{rank.value:g} ({rank.low:g} to {rank.high:g}) of {len(scores)}. By the mean differences of the scores:"
        )
        others = {b: each for (a, b), each in found.items() if a == name}
        for word, text in TEXTS.items():
            if group := [f"`{b}` {each.difference}" for b, each in others.items() if each.word == word]:
                lines.append(f"  - {text} {', '.join(group)}.")
    return lines


def _over_all(scores: dict[str, np.ndarray], budget: str) -> list[str]:
    """The best strategy, and all by their verdicts against `full`; the lines after the first one are below it."""
    best, found = min(scores, key=lambda name: score_over_tasks(scores[name])), against_full(scores)
    lines = [f"{budget}, the lowest score is that of `{best}`: {score_interval(scores[best])}."]
    for word, text in TEXTS.items():
        if group := [f"`{name}` {each.difference}" for name, each in found.items() if each.word == word]:
            limits = f" (all intervals lie within ± {MARGIN})" if word == "tie" else ""
            lines.append(f"  - {text} `{REFERENCE}`, by the mean difference of the scores{limits}: {', '.join(group)}.")
    return lines


def _not_paid(counted: list[TaskScores]) -> list[str]:
    """Where the score at equal cost is not measured, since the core-seconds pay no block."""
    missing = [name for problem in counted for name in problem.runs if not problem.blocks_at_equal_cost(name)]
    if not missing:
        return []
    texts = (f"`{name}` on {missing.count(name)}" for name in dict.fromkeys(missing))
    text = "Not measured but set to 1, since the core-seconds pay less than a twentieth of a run"
    return [f"  - {text}: {', '.join(texts)} of {len(counted)} tasks."]


def _on_control(problem: TaskScores) -> str:
    found = on_problem(problem)
    others = [f"`{name}` {each.word} {each.difference}" for name, each in found.items() if each.word != "tie"]
    rest = f"; not tied: {', '.join(others)}" if others else ""
    return (
        f"On the control {problem.name}, {len(found) - len(others)} of {len(found)} strategies tie with "
        f"`{REFERENCE}`{rest}."
    )


def _cannot_decide(problems: list[TaskScores]) -> list[str]:
    """The comparisons in which no difference could be significant, since there are too few seeds."""
    scores = at_equal_updates(problems)
    num_tasks, num_seeds = scores[REFERENCE].shape
    families = {
        f"from `{REFERENCE}` on a single task": (num_seeds, max(len(problem.runs) for problem in problems) - 2),
        f"from `{REFERENCE}` over the tasks": (num_tasks * num_seeds, len(scores) - 1),
        "between two strategies in the table of pairs": (num_tasks * num_seeds, len(scores) * (len(scores) - 1) // 2),
    }
    return [
        f"**No difference {where} can be significant**: with {num_seeds} seeds, the lowest p value of {count} "
        f"comparisons is {least_p(size, count):.2g}. More seeds are needed."
        for where, (size, count) in families.items()
        if least_p(size, count) > LEVEL
    ]


def _diverged(problem: TaskScores) -> str:
    found = {name: problem.diverged(name) for name in problem.runs}
    texts = [f"{count} of `{name}`" for name, count in found.items() if count]
    return f"Runs that diverged on {problem.name}: {', '.join(texts)}." if texts else ""


def _disturbed(problem: TaskScores) -> str:
    share = min(measures["core_share"] for measures in problem.measures.values())
    if share >= QUIET:
        return ""
    return (
        f"**The prices on {problem.name} are not reliable**: other programs used the core {100 * (1 - share):.0f} % of "
        "the time while they were measured. Delete the files of `stages` that begin with `measures`, and type the same "
        "command on a machine that does nothing else."
    )

"""What the scores say about the strategies: verdicts, and sentences each of which follows from an interval."""

import itertools

import numpy as np

from .scores import FROZEN, REFERENCE, Problem, admitted, at_equal_cost, at_equal_updates
from .statistics import Verdict, score_interval, score_over_tasks, verdicts

TEXTS = {"better": "Better than", "tie": "Tied with", "worse": "Worse than", "undecided": "Undecided against"}
"""The verdicts as the beginning of a sentence."""


def sentences(problems: list[Problem]) -> str:
    """What the intervals say, as Markdown: a list of sentences."""
    lines = [
        f"**{problem.name} does not count**: {problem.status.removeprefix('not admitted: ')}."
        for problem in problems
        if problem.status.startswith("not")
    ]
    if counted := admitted(problems):
        lines.append(f"These tasks count: {'; '.join(problem.name for problem in counted)}.")
        lines += _over_all(at_equal_updates(problems), "With equally many updates")
        lines += _over_all(at_equal_cost(problems), "With equally many core-seconds")
        lines += _not_paid(counted)
    else:
        lines.append("No task is admitted, so that nothing follows.")
    lines += [_on_control(problem) for problem in problems if problem.status == "control"]
    return "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)


def against_full(scores: dict[str, np.ndarray]) -> dict[str, Verdict]:
    """The verdicts of all strategies against `full` over the problems that count, one family of comparisons."""
    return verdicts({name: (each, scores[REFERENCE]) for name, each in scores.items() if name != REFERENCE})


def on_problem(problem: Problem) -> dict[str, Verdict]:
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


def _over_all(scores: dict[str, np.ndarray], budget: str) -> list[str]:
    """The best strategy, and all by their verdicts against `full`; the lines after the first one are below it."""
    best, found = min(scores, key=lambda name: score_over_tasks(scores[name])), against_full(scores)
    lines = [f"{budget}, the lowest score is that of `{best}`: {score_interval(scores[best])}."]
    for word, text in TEXTS.items():
        if group := [f"`{name}` {each.difference}" for name, each in found.items() if each.word == word]:
            lines.append(f"  - {text} `{REFERENCE}`, by the mean difference of the scores: {', '.join(group)}.")
    return lines


def _not_paid(counted: list[Problem]) -> list[str]:
    """Where the score at equal cost is not measured, since the core-seconds pay no block."""
    missing = [name for problem in counted for name in problem.runs if not problem.blocks_at_equal_cost(name)]
    if not missing:
        return []
    texts = (f"`{name}` on {missing.count(name)}" for name in dict.fromkeys(missing))
    text = "Not measured but set to 1, since the core-seconds pay less than a twentieth of a run"
    return [f"  - {text}: {', '.join(texts)} of {len(counted)} tasks."]


def _on_control(problem: Problem) -> str:
    found = on_problem(problem)
    others = [f"`{name}` {each.word} {each.difference}" for name, each in found.items() if each.word != "tie"]
    rest = f"; not tied: {', '.join(others)}" if others else ""
    return (
        f"On the control {problem.name}, {len(found) - len(others)} of {len(found)} strategies tie with "
        f"`{REFERENCE}`{rest}."
    )

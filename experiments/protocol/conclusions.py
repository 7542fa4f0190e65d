"""What the scores say about the strategies: verdicts, and sentences each of which follows from an interval."""

import numpy as np

from .scores import FROZEN, REFERENCE, Problem, admitted, complete
from .statistics import MARGIN, Verdict, rank_intervals, verdicts


def sentences(problems: list[Problem]) -> str:
    """What the intervals say, as Markdown: a list of sentences."""
    lines = [
        f"**{problem.name} does not count**: {problem.status.removeprefix('not admitted: ')}."
        for problem in problems
        if problem.status.startswith("not")
    ]
    if scores := complete(problems):
        lines.append(f"These count: {'; '.join(problem.name for problem in admitted(problems))}.")
        lines += _over_all(scores)
    else:
        lines.append("No task is admitted, so that nothing follows.")
    lines += [_on_control(problem) for problem in problems if problem.status == "control"]
    return "\n".join(f"- {line}" for line in lines)


def over_all_problems(scores: dict[str, np.ndarray]) -> dict[str, Verdict]:
    """The verdicts of all strategies against `full` over the problems that count, one family of comparisons."""
    return verdicts({name: (each, scores[REFERENCE]) for name, each in scores.items() if name != REFERENCE})


def on_problem(problem: Problem) -> dict[str, Verdict]:
    """The verdicts of all strategies against `full` on one problem, one family of comparisons."""
    tuned = {name: runs.tuned[None] for name, runs in problem.runs.items()}
    return verdicts({name: (each, tuned[REFERENCE]) for name, each in tuned.items() if name not in (REFERENCE, FROZEN)})


def _over_all(scores: dict[str, np.ndarray]) -> list[str]:
    lines = []
    best = [f"`{name}`" for name, rank in rank_intervals(scores).items() if rank.low < 1.5]
    if len(best) == 1:
        lines.append(f"Only {best[0]} has a rank interval that begins at 1.")
    else:
        lines.append(f"These may be first, since their rank intervals begin at 1: {', '.join(best)}.")
    found = over_all_problems(scores)
    texts = {
        "better": f"Better than `{REFERENCE}` over these tasks, by the difference of the scores",
        "tie": f"Tied with `{REFERENCE}` (within ± {MARGIN})",
        "worse": f"Worse than `{REFERENCE}`",
        "undecided": f"Undecided against `{REFERENCE}`",
    }
    for word, text in texts.items():
        if group := [f"`{name}` {each.difference}" for name, each in found.items() if each.word == word]:
            lines.append(f"{text}: {', '.join(group)}.")
    return lines


def _on_control(problem: Problem) -> str:
    found = on_problem(problem)
    others = [f"`{name}` {each.word} {each.difference}" for name, each in found.items() if each.word != "tie"]
    rest = f"; not tied: {', '.join(others)}" if others else ""
    return (
        f"On the control {problem.name}, {len(found) - len(others)} of {len(found)} strategies tie with "
        f"`{REFERENCE}`{rest}."
    )

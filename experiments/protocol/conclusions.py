"""Sentences of the page, each of which follows from an interval."""

from collections.abc import Sequence

import numpy as np

from .families import ALL, CONTROL, PAIRS, SECONDS, UPDATES, WINDOW, WINDOWS, Family, scores_at
from .problems import REFERENCE
from .scores import ProblemScores, counted, ratio
from .statistics import LEVEL, MARGIN, Verdict, least_p, rank_intervals, score_interval, score_over_tasks

TEXTS = {
    "same": "The same gradient as",
    "better": "Better than",
    "tie": "Tied with",
    "worse": "Worse than",
    "undecided": "Undecided against",
}
"""The verdicts as the beginning of a sentence."""
QUESTIONS = {
    "covered": "A window covers what the task needs: what does an approximation lose?",
    "stream": "A window may be shorter than what the task needs: what is worth its price?",
}
"""The questions, by their names."""
BUDGETS = {UPDATES: "With all updates", SECONDS: f"With the core-seconds of `{REFERENCE}`"}
QUIET = 0.9
"""The least share of the time of its core that a process must have for its prices to be believed."""


def sentences(problems: list[ProblemScores], families: list[Family], about: Sequence[str] = ()) -> str:
    """What the intervals say, as Markdown: a heading for each question, with a list of sentences.

    Args:
        problems: the problems.
        families: the verdicts.
        about: the strategies that come first, with their verdicts against all others.
    """
    parts = []
    for question in dict.fromkeys(problem.problem.question for problem in problems):
        of_question = [problem for problem in problems if problem.problem.question == question]
        found = [each for each in families if each.question == question]
        lines = _answers(of_question, found, about)
        text = "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)
        parts.append(f"**{QUESTIONS.get(question, question)}**\n\n{text}")
    return "\n\n".join(parts)


def remarks(problems: list[ProblemScores], families: list[Family]) -> str:
    """What limits the answers, as a list of Markdown: what does not count, what diverged, and what is not reliable."""
    lines = [
        f"**{problem.name} does not count**: {problem.status.removeprefix('not admitted: ')}."
        for problem in problems
        if problem.status.startswith("not")
    ]
    lines += _cannot_decide(families)
    for problem in problems:
        lines += filter(None, (_diverged(problem), _at_edges(problem), _not_paid(problem), _disturbed(problem)))
    return "\n".join(f"- {line}" for line in lines)


def _answers(problems: list[ProblemScores], families: list[Family], about: Sequence[str]) -> list[str]:
    if not counted(problems):
        return ["No problem counts, so that nothing follows."]
    lines = []
    for each in families:
        if each.kind == ALL:
            lines += _about(each.problems, families, about) if each.budget == UPDATES else []
            lines += _over_all(each)
        elif each.kind == WINDOW:
            lines += _of_window(each)
        elif each.kind == WINDOWS:
            lines += _over_all(each, each.problems[0].problem.network)
            lines += [_fewest_bytes(each)] if each.budget == UPDATES else []
    return [*lines, *(_on_controls(each) for each in families if each.kind == CONTROL)]


def _over_all(each: Family, network: str = "") -> list[str]:
    """The contender with the lowest score, and the verdicts against `full`; the lines after the first one below it."""
    scores = scores_at(each.budget, each.problems)
    best = min(scores, key=lambda name: score_over_tasks(scores[name]))
    of_network = f"{network}: " if network else ""
    names = "; ".join(dict.fromkeys(problem.name for problem in each.problems))
    text = f"{of_network}{BUDGETS[each.budget]}, the lowest score is that of `{best}`: {score_interval(scores[best])}"
    return [f"{text} ({names}).", *_groups(each.found)]


def _fewest_bytes(each: Family) -> str:
    """Which of the contenders that are as good as `full` with the longest window needs the fewest bytes."""
    network = each.problems[0].problem.network
    (reference,) = {reference for _, reference in each.found}
    as_good = {
        name: ratio(each.problems, name, reference, "bytes")
        for (name, _), verdict in each.found.items()
        if verdict.word in ("better", "tie", "same")
    }
    name = min(as_good, key=as_good.__getitem__, default=reference)
    if as_good.get(name, 1.0) >= 1:
        return f"{network}: No contender with fewer bytes than `{reference}` is better than it or tied with it."
    difference = each.found[name, reference].difference
    return (
        f"{network}: Of those that are better than `{reference}` or tied with it, `{name}` needs the fewest bytes, "
        f"{as_good[name]:.2g} times those of `{reference}`, with the difference of the scores {difference}."
    )


def number_of(what: str, number: int) -> str:
    """A number with its noun, such as "1 step" or "16 steps"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _of_window(each: Family) -> list[str]:
    """The score of `full` with one length of the windows, and the verdicts against it."""
    (reference,) = {reference for _, reference in each.found}
    _, length = each.problems[0].strategies[reference]
    own = score_interval(scores_at(UPDATES, each.problems)[reference])
    text = f"With windows of {number_of('step', length)}, for all networks, the score of `{REFERENCE}` is {own}"
    return [f"{text} ({number_of('problem', len(each.problems))}).", *_groups(each.found)]


def _groups(found: dict[tuple[str, str], Verdict]) -> list[str]:
    """The contenders by their verdicts, below a sentence."""
    lines = []
    for word, text in TEXTS.items():
        if group := [(pair, verdict) for pair, verdict in found.items() if verdict.word == word]:
            limits = f" (all intervals lie within ± {MARGIN})" if word == "tie" else ""
            (reference,) = {pair[1] for pair, _ in group}
            each = ", ".join(f"`{pair[0]}` {verdict.difference}" for pair, verdict in group)
            lines.append(f"  - {text} `{reference}`, by the mean difference of the scores{limits}: {each}.")
    return lines


def _about(problems: list[ProblemScores], families: list[Family], names: Sequence[str]) -> list[str]:
    """The score, the rank and the verdicts of these strategies."""
    scores, lines = scores_at(UPDATES, problems), []
    ranks = rank_intervals(scores) if names else {}
    pairs = next((each.found for each in families if each.kind == PAIRS), {})
    mirrored = {(b, a): verdict.mirrored() for (a, b), verdict in pairs.items()}
    for name in names:
        if name not in scores:
            lines.append(f"`{name}` does not take all problems that count, and has no rank.")
            continue
        rank = ranks[name]
        lines.append(
            f"`{name}` has the score {score_interval(scores[name])} with all updates, and the rank {rank.value:g} "
            f"({rank.low:g} to {rank.high:g}) of {len(scores)}. By the mean differences of the scores:"
        )
        others = {b: verdict for (a, b), verdict in (pairs | mirrored).items() if a == name}
        for word, text in TEXTS.items():
            if group := [f"`{b}` {each.difference}" for b, each in others.items() if each.word == word]:
                lines.append(f"  - {text} {', '.join(group)}.")
    return lines


def _on_controls(each: Family) -> str:
    """Whether the controls have the verdicts that they must have, and the resolution of the scores."""
    (twin, reference), (wrong, _) = each.found
    tied, worse = each.found[twin, reference], each.found[wrong, reference]
    differences = np.stack([problem.score(twin) - problem.score(reference) for problem in each.problems])
    spread, most = np.sqrt(np.mean(np.square(differences))), np.abs(differences.mean(1)).max()
    return (
        f"Controls over {number_of('problem', len(each.problems))}: `{reference}` again, with a gradient that differs "
        f"in the last place, is {TEXTS[tied.word].lower()} `{reference}`, with the difference {tied.difference}, and "
        f"the wrong sign is {TEXTS[worse.word].lower()} it, {worse.difference}. By rounding alone, the score of a run "
        f"changes by {spread:.3f} (root mean square), and the mean over the seeds of one problem by {most:.3f} at most."
    )


def _cannot_decide(families: list[Family]) -> list[str]:
    """The families in which no difference could be significant, since there are too few seeds."""
    lines = []
    for each in families:
        size = len(each.problems) * len(each.problems[0].unit)
        if each.found and (least := least_p(size, len(each.found))) > LEVEL:
            lines.append(
                f"**No difference can be significant: {each.name}.** With {len(each.problems[0].unit)} seeds, the "
                f"lowest p value of {len(each.found)} comparisons is {least:.2g}. More seeds are needed."
            )
    return lines


def _diverged(problem: ProblemScores) -> str:
    found = {name: int(np.isinf(each.tuned()).sum()) for name, each in problem.contenders.items()}
    texts = [f"{count} of `{name}`" for name, count in found.items() if count]
    return f"Runs that diverged on {problem.name}: {', '.join(texts)}." if texts else ""


def _at_edges(problem: ProblemScores) -> str:
    texts = [
        f"`{name}`"
        for name, each in problem.contenders.items()
        if any(each.candidates[n].is_edge for n in each.chosen())
    ]
    return f"The best rate on {problem.name} is the last one that was tried: {', '.join(texts)}." if texts else ""


def _not_paid(problem: ProblemScores) -> str:
    """Where the score at equal cost is not measured, since the core-seconds pay no block."""
    names = [f"`{name}`" for name in problem.contenders if not problem.blocks_for(name, 1)]
    if problem.status != "counts" or not names:
        return ""
    return (
        f"On {problem.name} the core-seconds of `{REFERENCE}` pay less than a twentieth of a run, and the score is set "
        f"to 1: {', '.join(names)}."
    )


def _disturbed(problem: ProblemScores) -> str:
    share = min(price["core_share"] for price in problem.prices.values())
    if share >= QUIET:
        return ""
    return (
        f"**The prices on {problem.name} are not reliable**: other programs used the core {100 * (1 - share):.0f} % of "
        "the time while they were measured. Delete the files of `stages` that begin with `price`, and type the same "
        "command on a machine that does nothing else."
    )

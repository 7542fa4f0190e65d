"""Sentences of the page, each of which follows from an interval."""

from collections.abc import Iterable, Sequence

from .families import ALL, NETWORK, PAIRS, SECONDS, UPDATES, WINDOW, WINDOWS, Family, scores_at
from .problems import REFERENCE
from .scores import ProblemScores, counted, ratio
from .statistics import MARGIN, Interval, Verdict, mean_interval, rank_intervals

TEXTS = {
    "same": "Equal but for rounding to",
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
        parts.append(f"**{QUESTIONS.get(question, question)}**\n\n{as_list(lines)}")
    return "\n\n".join(parts)


def of_windows(families: list[Family]) -> str:
    """The verdicts on windows of all lengths, as a list of Markdown; "": each task has windows of its own."""
    lines = []
    for each in families:
        if each.kind == WINDOW:
            lines += _of_window(each)
        elif each.kind == WINDOWS:
            network = each.problems[0].problem.network
            lines += [f"{network}: {_budget(each)}, against `{_reference(each)}`:", *_groups(each.found)]
    return as_list(lines)


def _answers(problems: list[ProblemScores], families: list[Family], about: Sequence[str]) -> list[str]:
    if not counted(problems):
        return ["No problem counts, so that nothing follows.", *(f"  - {why_not(problem)}." for problem in problems)]
    lines = _about_windows(families, about)
    for each in families:
        if each.kind == ALL:
            lines += _about(each.problems, families, about) if each.budget == UPDATES else []
            lines += _over_all(each)
        elif (each.kind, each.budget) == (WINDOWS, UPDATES):
            lines.append(_of_network(each))
    paid = [each for each in families if (each.kind, each.budget) == (WINDOWS, SECONDS)]
    return [*lines, *([_at_equal_cost(paid)] if paid else [])]


def why_not(problem: ProblemScores) -> str:
    """Why a problem does not count."""
    reason = "it stands beside the others" if problem.status == "beside" else problem.status
    return f"**{problem.name} does not count**: {reason.removeprefix('not admitted: ')}"


def as_list(lines: Iterable[str]) -> str:
    """Lines as a list of Markdown, of which those that begin with a space are below the line before."""
    return "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)


def _over_all(each: Family) -> list[str]:
    """The contender with the lowest score, and the verdicts against `full`; the lines after the first one below it."""
    best, interval = _best(each)
    text = f"{_budget(each)}, the lowest score is that of `{best}`: {interval}"
    return [f"{text} ({number_of('problem', len(each.problems))}).", *_groups(each.found)]


def _best(each: Family) -> tuple[str, Interval]:
    """The contender with the lowest score, and that score."""
    scores = scores_at(each.budget, each.problems)
    best = min(scores, key=lambda name: scores[name].mean())
    return best, mean_interval(scores[best])


def _budget(each: Family) -> str:
    """The budget of a family, as the beginning of a sentence."""
    return "With all updates" if each.budget == UPDATES else f"With the core-seconds of `{_reference(each)}`"


def _reference(each: Family) -> str:
    """The contender with which all others of a family are compared."""
    (reference,) = {reference for _, reference in each.found}
    return reference


def _of_network(each: Family) -> str:
    """What is best for a network with all updates, and with how few bytes one can be as good as `full`."""
    network = each.problems[0].problem.network
    return f"{network}: {_budget(each)}, the lowest score is that of {_best_and_verdict(each)}. {_fewest_bytes(each)}"


def _at_equal_cost(families: list[Family]) -> str:
    """What is best for each network with the core-seconds of `full`."""
    each_best = "; ".join(
        f"for {each.problems[0].problem.network} that of {_best_and_verdict(each)}" for each in families
    )
    return f"{_budget(families[0])}, the lowest score is {each_best}."


def _best_and_verdict(each: Family) -> str:
    """The contender with the lowest score, that score, and the verdict against `full`."""
    reference, (best, interval) = _reference(each), _best(each)
    found = each.found.get((best, reference))
    against = f", {TEXTS[found.word].lower()} `{reference}` with the difference {found.difference}" if found else ""
    return f"`{best}`: {interval}{against}"


def _fewest_bytes(each: Family) -> str:
    """Which of the contenders that are as good as `full` with the longest window needs the fewest bytes."""
    reference = _reference(each)
    as_good = {
        name: ratio(each.problems, name, reference, "bytes")
        for (name, _), verdict in each.found.items()
        if verdict.word in ("better", "tie", "same")
    }
    name = min(as_good, key=as_good.__getitem__, default=reference)
    if as_good.get(name, 1.0) >= 1:
        return f"No contender with fewer bytes than `{reference}` is better than it or tied with it."
    difference = each.found[name, reference].difference
    return (
        f"Of those that are better than `{reference}` or tied with it, `{name}` needs the fewest bytes, "
        f"{as_good[name]:.3g} times those of `{reference}`, with the difference of the scores {difference}."
    )


def number_of(what: str, number: int) -> str:
    """A number with its noun, such as "1 step" or "16 steps"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _of_window(each: Family) -> list[str]:
    """The score of `full` with one length of the windows, and the verdicts against it."""
    reference = _reference(each)
    _, length = each.problems[0].strategies[reference]
    own = mean_interval(scores_at(UPDATES, each.problems)[reference])
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
            f"`{name}` has the score {mean_interval(scores[name])} with all updates, and the rank {rank.value:g} "
            f"({rank.low:g} to {rank.high:g}) of {len(scores)}. By the mean differences of the scores:"
        )
        others = {b: verdict for (a, b), verdict in (pairs | mirrored).items() if a == name}
        for word, text in TEXTS.items():
            if group := [f"`{b}` {each.difference}" for b, each in others.items() if each.word == word]:
                lines.append(f"  - {text} {', '.join(group)}.")
    return lines


def _about_windows(families: list[Family], names: Sequence[str]) -> list[str]:
    """The verdicts of these strategies against `full` with windows of each length."""
    lines = []
    for name in names:
        # Over all networks where a strategy takes all of them, and otherwise over each of them.
        for kind in (WINDOW, NETWORK):
            found = [
                f"{each.name}: {TEXTS[verdict.word].lower()} it, {verdict.difference}"
                for each in families
                for (contender, _), verdict in each.found.items()
                if each.kind == kind and each.problems[0].strategies[contender][0] == name
            ]
            if found:
                lines += [f"`{name}` and `{REFERENCE}` with the same windows:", *(f"  - {text}." for text in found)]
                break
    return lines

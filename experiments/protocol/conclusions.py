"""Sentences of the page, each of which follows from an interval."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from seqjax.errors import few

from .families import ALL, CONTROL, NETWORK, PAIRS, SECONDS, UPDATES, WINDOW, WINDOWS, Family, scores_at
from .problems import CONTROLS, REFERENCE, Problem
from .scores import TOO_HIGH, ProblemScores, counted, ratio
from .statistics import LEVEL, MARGIN, Verdict, least_p, mean_interval, rank_intervals

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


def warnings(problems: list[ProblemScores], families: list[Family]) -> str:
    """What a reader must know before the answers, as a list of Markdown; "": nothing."""
    sizes = [(each.name, len(each.problems), len(each.found)) for each in families if each.found]
    lines = [*few_seeds(sizes, len(problems[0].unit)), _equal_data(problems), _disturbed(problems)]
    lines += [f"{_lost(problem)}." for problem in problems if problem.status.startswith(TOO_HIGH)]
    return "\n".join(f"- {line}" for line in lines if line)


def remarks(problems: list[ProblemScores]) -> str:
    """What limits the answers, as a list of Markdown: what does not count, what diverged, and what was not paid."""
    lines = [f"{_lost(problem)}." for problem in problems if problem.status.startswith("not")]
    for problem in problems:
        lines += filter(None, (_diverged(problem), _at_edges(problem), _not_paid(problem)))
    return "\n".join(f"- {line}" for line in lines)


def planned(problems: Sequence[Problem]) -> list[tuple[str, int, int]]:
    """The comparisons of problems that are not computed yet, for `few_seeds`."""
    found = {}
    for problem in problems:
        others = len(set(problem.strategies) - {*CONTROLS, REFERENCE})
        group = [each for each in problems if each.question == problem.question]
        if len(problem.lengths) == 1:
            found[f"on {problem.name}"] = 1, others
        found["all problems" if len(problem.lengths) == 1 else "all windows"] = len(group), others
    return [(name, *sizes) for name, sizes in found.items()]


def few_seeds(comparisons: Sequence[tuple[str, int, int]], num_seeds: int) -> list[str]:
    """Where no difference could be significant, since there are too few seeds, as at most one line.

    Args:
        comparisons: what is compared, the number of its problems, and that of its comparisons.
        num_seeds: the number of seeds.
    """
    least: dict[int, list[str]] = {}
    for name, num_problems, size in comparisons:
        needed = next(n for n in itertools.count(2) if least_p(num_problems * n, size) <= LEVEL)
        if needed > num_seeds:
            least.setdefault(needed, []).append(name)
    places = "; ".join(f"{few(names)} ({needed} seeds are needed)" for needed, names in sorted(least.items()))
    return [f"**With {num_seeds} seeds no difference can be significant**: {places}."] if places else []


def _answers(problems: list[ProblemScores], families: list[Family], about: Sequence[str]) -> list[str]:
    if not counted(problems):
        return ["No problem counts, so that nothing follows.", *(f"  - {_lost(problem)}." for problem in problems)]
    lines = _about_windows(families, about)
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
    best = min(scores, key=lambda name: scores[name].mean())
    of_network = f"{network}: " if network else ""
    names = "; ".join(dict.fromkeys(problem.name for problem in each.problems))
    text = f"{of_network}{BUDGETS[each.budget]}, the lowest score is that of `{best}`: {mean_interval(scores[best])}"
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
        f"{as_good[name]:.3g} times those of `{reference}`, with the difference of the scores {difference}."
    )


def number_of(what: str, number: int) -> str:
    """A number with its noun, such as "1 step" or "16 steps"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _of_window(each: Family) -> list[str]:
    """The score of `full` with one length of the windows, and the verdicts against it."""
    (reference,) = {reference for _, reference in each.found}
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


def _lost(problem: ProblemScores) -> str:
    """Why a problem does not count."""
    reason = "it stands beside the others" if problem.status == "beside" else problem.status
    return f"**{problem.name} does not count**: {reason.removeprefix('not admitted: ')}"


def _equal_data(problems: list[ProblemScores]) -> str:
    """The problems whose data are the same for all seeds."""
    names = [
        problem.name
        for problem in problems
        if (dataset := getattr(problem.problem.task, "dataset", None)) is not None
        and all(field.name != "seed" for field in dataclasses.fields(dataset))
    ]
    return (
        f"**All seeds read the same data** on {few(names)}: the dataset has no field `seed`. The intervals do not tell "
        "what other data would change."
        if names
        else ""
    )


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


def _disturbed(problems: list[ProblemScores]) -> str:
    """The problems whose prices are not reliable."""
    shares = {problem.name: min(price["core_share"] for price in problem.prices.values()) for problem in problems}
    names = [f"{name} ({100 * (1 - share):.0f} %)" for name, share in shares.items() if share < QUIET]
    return (
        f"**The prices on these problems are not reliable**, since other programs used the core for a part of the "
        f"time: {few(names)}. Delete the files of `stages` that begin with `price`, and type the same command on a "
        "machine that does nothing else."
        if names
        else ""
    )

"""What limits the answers of the page: controls, few seeds, problems that do not count, and disturbed prices."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seqjax.errors import few

from .conclusions import TEXTS, as_list, number_of, why_not
from .families import CONTROL, Family
from .problems import CONTROLS, REFERENCE, Problem
from .scores import TOO_HIGH, ProblemScores
from .statistics import LEVEL, MOST_EXACT, least_p

QUIET = 0.9
"""The least share of the time of its core that a process must have for its prices to be believed."""


def warnings(problems: list[ProblemScores], families: list[Family]) -> str:
    """What a reader must know before the answers, as a list of Markdown; "": nothing."""
    sizes = [(each.name, len(each.problems), len(each.found)) for each in families if each.found]
    lines = [*few_seeds(sizes, len(problems[0].unit)), _equal_data(problems), _disturbed(problems)]
    lines += [
        f"**A control does not have the verdict that it must have**. {_on_controls(each)}"
        for each in families
        if _has_failed(each)
    ]
    lines += [f"{why_not(problem)}." for problem in problems if problem.status.startswith(TOO_HIGH)]
    return as_list(filter(None, lines))


def remarks(problems: list[ProblemScores], families: list[Family]) -> str:
    """What limits the answers, as a list of Markdown: controls, and what does not count, diverged or was not paid."""
    lines = [_on_controls(each) for each in families if each.kind == CONTROL]
    lines += [f"{why_not(problem)}." for problem in problems if problem.status.startswith("not")]
    for text, holds in LIMITS:
        lines += _by_contender(problems, text, holds)
    return as_list(lines)


def planned(problems: Sequence[Problem], variants: Mapping[str, Sequence[str]]) -> list[tuple[str, int, int]]:
    """The comparisons of problems that are not computed yet, for `few_seeds`.

    Args:
        problems: the problems.
        variants: a strategy whose fields are chosen -> the strategies with all values, which are one contender.
    """
    of_variant = {each: name for name, group in variants.items() for each in group}
    found = {}
    for problem in problems:
        names = {of_variant.get(name, name) for name in problem.strategies} - {*CONTROLS}
        group = [each for each in problems if each.question == problem.question]
        if len(problem.lengths) == 1:
            found[f"on {problem.name}"] = 1, len(names) - 1
            found["all problems"] = len(group), len(names) - 1
            found["pairs"] = len(group), len(names) * (len(names) - 1) // 2
        else:
            same = [each for each in group if (each.network, each.lengths) == (problem.network, problem.lengths)]
            found[f"all windows, {problem.network}"] = len(same), len(names) * len(problem.lengths) - 1
    return [(name, *sizes) for name, sizes in found.items()]


def few_seeds(comparisons: Sequence[tuple[str, int, int]], num_seeds: int) -> list[str]:
    """The families of comparisons in which no difference could be significant, as at most one line.

    Args:
        comparisons: what is compared, the number of its problems, and that of its comparisons.
        num_seeds: the number of seeds.
    """
    least: dict[str, list[str]] = {}
    for name, num_problems, size in dict.fromkeys(comparisons):
        # From 13 differences on, the lowest p value is that of so many random signs, and more seeds do not change it.
        enough = (n for n in range(2, MOST_EXACT + 2) if least_p(num_problems * n, size) <= LEVEL)
        if (needed := next(enough, None)) is None:
            least.setdefault("no number of seeds is enough for so many comparisons", []).append(name)
        elif needed > num_seeds:
            least.setdefault(f"{needed} seeds are needed", []).append(name)
    places = "; ".join(f"{few(names)} ({reason})" for reason, names in sorted(least.items()))
    return (
        [f"**With {num_seeds} seeds no difference can be significant in these families**: {places}."] if places else []
    )


def _has_failed(each: Family) -> bool:
    """Whether a control does not have its verdict."""
    if each.kind != CONTROL:
        return False
    tied, worse = each.found.values()
    return tied.word not in ("tie", "same") or worse.word != "worse"


def _on_controls(each: Family) -> str:
    """Whether the controls have the verdicts that they must have, and the resolution of the scores."""
    (twin, reference), (wrong, _) = each.found
    tied, worse = each.found[twin, reference], each.found[wrong, reference]
    differences = np.stack([problem.score(twin) - problem.score(reference) for problem in each.problems])
    spread, most = np.sqrt(np.mean(np.square(differences))), np.abs(differences.mean(1)).max()
    return (
        f"Controls over {number_of('problem', len(each.problems))}: `{twin}`, which differs from `{reference}` in the "
        f"last place of its gradient, is {TEXTS[tied.word].lower()} `{reference}`, {tied.difference}, and `{wrong}` is "
        f"{TEXTS[worse.word].lower()} it, {worse.difference}. By rounding alone, the score of a run "
        f"changes by {spread:.3f} (root mean square), and the mean over the seeds of one problem by {most:.3f} at most."
    )


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


def _by_contender(problems: list[ProblemScores], text: str, holds: Callable[[ProblemScores, str], bool]) -> list[str]:
    """A limit, and below it the contenders to which it applies, each with its problems; nothing if there are none."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        for name in problem.contenders:
            if holds(problem, name):
                found.setdefault(name, []).append(problem.name)
    lines = [f"  - `{name}`: {'; '.join(where)}." for name, where in found.items()]
    return [f"{text}:", *lines] if lines else []


def _diverged(problem: ProblemScores, name: str) -> bool:
    return bool(np.isinf(problem.contenders[name].tuned()).any())


def _at_edges(problem: ProblemScores, name: str) -> bool:
    contender = problem.contenders[name]
    return any(contender.candidates[n].is_edge for n in contender.chosen())


def _not_paid(problem: ProblemScores, name: str) -> bool:
    return problem.status == "counts" and not problem.blocks_for(name, 1)


LIMITS = (
    ("Some runs diverged", _diverged),
    ("The best rate is the last one that was tried", _at_edges),
    (f"The core-seconds of `{REFERENCE}` pay less than a twentieth of a run, and the score is set to 1", _not_paid),
)
"""What limits the answers about single contenders, with the test of a problem and a contender."""

"""The comparisons of the page: families of verdicts, each over some problems, at a budget."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .problems import CONTROLS, REFERENCE, TWIN, WRONG_SIGN
from .scores import ProblemScores, counted, over_problems
from .statistics import Verdict, verdicts
from .training import BLOCKS

UPDATES, SECONDS, FIRST = "a whole run", "the core-seconds of full", "the first block"
"""Budgets: all updates; as many core-seconds as the whole run of `full` takes; and the part of a run by which
strategies with the same gradient are known. The last one has no verdicts."""
ALL, PAIRS, ONE, CONTROL, WINDOW, NETWORK, WINDOWS = "all", "pairs", "one", "control", "window", "network", "windows"
"""The kinds of families: all problems against `full`; each strategy against each other one; one problem; the controls;
one length of the windows, over the networks or for one of them; and all lengths side by side."""


class Family(NamedTuple):
    """Comparisons whose p values are corrected together.

    Args:
        question: the name of the question.
        kind: one of the kinds above.
        name: what is compared, in words.
        budget: one of `UPDATES` and `SECONDS`.
        problems: the problems over which it is averaged.
        found: (contender, reference) -> the verdict.
    """

    question: str
    kind: str
    name: str
    budget: str
    problems: list[ProblemScores]
    found: dict[tuple[str, str], Verdict]


def blocks_at(budget: str, problem: ProblemScores, name: str) -> int:
    """The blocks of a run of a contender that a budget has."""
    return {UPDATES: BLOCKS, SECONDS: problem.blocks_for(name, 1), FIRST: 1}[budget]


def score_at(budget: str, problem: ProblemScores, name: str) -> np.ndarray:
    """The scores of a contender with a budget, float64[S]."""
    return problem.score(name, blocks_at(budget, problem, name))


def scores_at(budget: str, problems: Sequence[ProblemScores]) -> dict[str, np.ndarray]:
    """Contender -> its scores with a budget on all these problems, float64[K, S]."""
    return over_problems(problems, lambda problem, name: score_at(budget, problem, name))


def family(
    kind: str, name: str, budget: str, problems: list[ProblemScores], pairs: Sequence[tuple[str, str]]
) -> Family:
    """The verdicts of pairs of contenders over some problems.

    A pair whose gradients are the same on all problems has the word "same", whatever rounding made of it later.
    """
    stacked = {
        pair: [np.stack([score_at(budget, problem, each) for problem in problems]) for each in pair] for pair in pairs
    }
    found = verdicts({pair: (one, other) for pair, (one, other) in stacked.items()})
    for pair, verdict in found.items():
        if budget == UPDATES and all(problem.is_same(*pair) for problem in problems):
            found[pair] = verdict._replace(word="same")
    return Family(problems[0].problem.question, kind, name, budget, problems, found)


def families(problems: Sequence[ProblemScores]) -> list[Family]:
    """All families of an edition."""
    found = []
    for question in dict.fromkeys(problem.problem.question for problem in problems):
        of_question = [problem for problem in problems if problem.problem.question == question]
        several = any(len(problem.problem.lengths) > 1 for problem in of_question)
        found += _controls(counted(of_question))
        found += _by_window(counted(of_question)) if several else _with_one_window(of_question)
    return found


def _controls(problems: list[ProblemScores]) -> list[Family]:
    """`full` again must tie with `full`, and with the wrong sign it must be worse.

    They are compared over all problems with the same longest window: on a single problem, rounding alone can move the
    mean score of ten seeds by more than a tie allows.
    """
    groups: dict[tuple[str, ...], list[ProblemScores]] = {}
    for problem in problems:
        names = (problem.contender(name, problem.problem.lengths[-1]) for name in (TWIN, WRONG_SIGN, REFERENCE))
        groups.setdefault(tuple(names), []).append(problem)
    return [
        family(CONTROL, f"controls of {full}", UPDATES, group, [(twin, full), (wrong, full)])
        for (twin, wrong, full), group in groups.items()
    ]


def _with_one_window(problems: list[ProblemScores]) -> list[Family]:
    """Each contender against `full`, and against each other one."""
    found = []
    if used := counted(problems):
        names = list(scores_at(UPDATES, used))
        others = [(name, REFERENCE) for name in names if name != REFERENCE]
        pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
        found += [family(ALL, "all problems", budget, used, others) for budget in (UPDATES, SECONDS)]
        found.append(family(PAIRS, "pairs", UPDATES, used, pairs))
    for problem in problems:
        if problem.status in ("counts", "beside"):
            pairs = [(name, REFERENCE) for name in problem.contenders if name not in (REFERENCE, *CONTROLS)]
            found.append(family(ONE, f"on {problem.name}", UPDATES, [problem], pairs))
    return found


def _by_window(problems: list[ProblemScores]) -> list[Family]:
    """Each contender against `full` with the same window, over the networks and for each of them, and all windows."""
    found = []
    lengths = sorted({length for each in problems for length in each.problem.lengths})
    networks = list(dict.fromkeys(each.problem.network for each in problems))
    for length in lengths:
        group = [each for each in problems if length in each.problem.lengths]
        if pairs := _against_full(group, length):
            found.append(family(WINDOW, f"windows of {length}, all networks", UPDATES, group, pairs))
        for network in networks:
            of_network = [each for each in group if each.problem.network == network]
            if of_network and (pairs := _against_full(of_network, length)):
                found.append(family(NETWORK, f"windows of {length}, {network}", UPDATES, of_network, pairs))
    # All windows side by side, where there are all of them.
    for network in networks if len(lengths) > 1 else ():
        group = [each for each in problems if each.problem.network == network and each.problem.lengths == lengths]
        if group:
            reference = group[0].contender(REFERENCE, lengths[-1])
            pairs = [(name, reference) for name in scores_at(UPDATES, group) if name != reference]
            for budget in (UPDATES, SECONDS):
                found.append(family(WINDOWS, f"all windows, {network}", budget, group, pairs))
    return found


def _against_full(problems: list[ProblemScores], length: int) -> list[tuple[str, str]]:
    """The contenders of one window that take all problems, each with `full`."""
    first = problems[0]
    names = [name for name in scores_at(UPDATES, problems) if first.strategies[name][1] == length]
    reference = first.contender(REFERENCE, length)
    return [(name, reference) for name in names if name != reference]

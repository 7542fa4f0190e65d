"""The comparisons of the page: families of verdicts, each over some problems, at a budget."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .problems import FROZEN, REFERENCE, TWIN, WRONG_SIGN
from .scores import ProblemScores, counted, over_problems
from .statistics import Verdict, verdicts
from .training import BLOCKS

UPDATES, SECONDS = "a whole run", "the core-seconds of full"
"""The budgets of the verdicts: all updates, or as many core-seconds as the whole run of `full` takes."""


class Family(NamedTuple):
    """Comparisons whose p values are corrected together.

    Args:
        question: the name of the question.
        name: what is compared.
        budget: one of `UPDATES` and `SECONDS`.
        problems: the problems over which it is averaged.
        found: (contender, reference) -> the verdict.
    """

    question: str
    name: str
    budget: str
    problems: list[ProblemScores]
    found: dict[tuple[str, str], Verdict]


def score_at(budget: str, problem: ProblemScores, name: str) -> np.ndarray:
    """The scores of a contender with a budget, float64[S]."""
    return problem.score(name, BLOCKS if budget == UPDATES else problem.blocks_for(name, 1))


def scores_at(budget: str, problems: Sequence[ProblemScores]) -> dict[str, np.ndarray]:
    """Contender -> its scores with a budget on all these problems, float64[K, S]."""
    return over_problems(problems, lambda problem, name: score_at(budget, problem, name))


def family(
    question: str, name: str, budget: str, problems: list[ProblemScores], pairs: Sequence[tuple[str, str]]
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
    return Family(question, name, budget, problems, found)


def families(problems: Sequence[ProblemScores]) -> list[Family]:
    """All families of an edition."""
    found = []
    for question in dict.fromkeys(problem.problem.question for problem in problems):
        of_question = [problem for problem in problems if problem.problem.question == question]
        several = any(len(problem.problem.windows) > 1 for problem in of_question)
        found += _controls(question, of_question)
        found += _by_window(question, of_question) if several else _with_one_window(question, of_question)
    return found


def _controls(question: str, problems: list[ProblemScores]) -> list[Family]:
    """`full` again must tie with `full`, and with the wrong sign it must be worse."""
    found = []
    for problem in counted(problems):
        window = problem.problem.task.window
        twin, wrong, full = (problem.contender(name, window) for name in (TWIN, WRONG_SIGN, REFERENCE))
        found.append(family(question, f"controls on {problem.name}", UPDATES, [problem], [(twin, full), (wrong, full)]))
    return found


def _with_one_window(question: str, problems: list[ProblemScores]) -> list[Family]:
    """Each contender against `full`, and against each other one."""
    found = []
    if used := counted(problems):
        names = list(scores_at(UPDATES, used))
        others = [(name, REFERENCE) for name in names if name != REFERENCE]
        pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
        found += [family(question, "all problems", budget, used, others) for budget in (UPDATES, SECONDS)]
        found.append(family(question, "pairs", UPDATES, used, pairs))
    for problem in problems:
        if problem.status in ("counts", "beside"):
            pairs = [(name, REFERENCE) for name in problem.contenders if name not in (REFERENCE, *CONTROLS)]
            found.append(family(question, f"on {problem.name}", UPDATES, [problem], pairs))
    return found


def _by_window(question: str, problems: list[ProblemScores]) -> list[Family]:
    """Each contender against `full` with the same window, over the networks and for each of them."""
    found, used = [], counted(problems)
    lengths = sorted({window.task.window for problem in used for window in problem.problem.windows})
    networks = list(dict.fromkeys(problem.problem.model_name for problem in used))
    for length in lengths:
        with_window = [each for each in used if length in {w.task.window for w in each.problem.windows}]
        groups = {"all networks": with_window} | {
            network.partition(":")[0]: [each for each in with_window if each.problem.model_name == network]
            for network in networks
        }
        for name, group in groups.items():
            if group and (pairs := _against_full(group, length)):
                found.append(family(question, f"windows of {length}, {name}", UPDATES, group, pairs))
    # All windows side by side, where there are all of them.
    longest = [each for each in used if len(each.problem.windows) == len(lengths)]
    for network in networks if len(lengths) > 1 else ():
        group = [each for each in longest if each.problem.model_name == network]
        if group:
            names, name = list(scores_at(UPDATES, group)), network.partition(":")[0]
            reference = group[0].contender(REFERENCE, lengths[-1])
            pairs = [(each, reference) for each in names if each != reference]
            found += [family(question, f"all windows, {name}", each, group, pairs) for each in (UPDATES, SECONDS)]
    return found


def _against_full(problems: list[ProblemScores], length: int) -> list[tuple[str, str]]:
    """The contenders of one window that take all problems, each with `full`."""
    first = problems[0]
    names = [name for name in scores_at(UPDATES, problems) if first.strategies[name][1] == length]
    reference = first.contender(REFERENCE, length)
    return [(name, reference) for name in names if name != reference]


CONTROLS = (FROZEN, TWIN, WRONG_SIGN)
"""The contenders that are in no ranking."""

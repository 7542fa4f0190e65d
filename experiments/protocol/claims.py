"""Claims of papers, tested by name on the runs of the referee."""

import numpy as np

from seqjax.report import Table

from .scores import FROZEN, IMMEDIATE, TaskScores
from .statistics import mean_interval, ratio_interval, score_interval

EXACT, SPARSE, PATHS = "rtrl", "sparse-rtrl:paths=2", 2
"""The strategies with the exact gradient of the history, and with one through 2 paths of each state number."""
POINTS = 0.03
"""Merin (2026, arXiv:2603.28750, version 3) calls recoveries equal within three points."""
RECOVERED, SHARE = 0.84, 1 / 16
"""The recovery that the same author (2026, arXiv:2603.15195) reports for 4 of 64 paths."""
LEARNED = 0.5
"""A task tests a claim if `rtrl` has surely a lower score than this, and `frozen` a higher one."""


def claims(problems: list[TaskScores]) -> Table:
    """For each task, whether the runs reproduce each claim.

    The recovery of a strategy is one less its score: 1 at the floor, 0 for a recurrence that is not trained. A task
    that exact gradients did not learn, or on which a recurrence has nothing to learn, tests nothing.
    """
    rows = []
    for claim, strategy, compare in (
        ("2603.28750: without any propagation the recovery is that of exact RTRL, within .03", IMMEDIATE, _equal),
        ("2603.15195: through 6 % of the paths .84 of the recovery of exact RTRL", SPARSE, _recovered),
    ):
        for problem in problems:
            if EXACT in problem.runs and strategy in problem.runs:
                counts = problem.status.partition(":")[0]
                rows.append((claim, problem.name, counts, *(compare(problem) if _tests(problem) else _nothing())))
    return Table(("claim", "task", "counts", "what", "estimate (95 % interval)", "here"), rows)


def _tests(problem: TaskScores) -> bool:
    exact, frozen = (score_interval(problem.runs[name].tuned[None]) for name in (EXACT, FROZEN))
    return exact.high < LEARNED < frozen.low


def _nothing() -> tuple[str, str, str]:
    return "", "", "no test: nothing learned, or nothing to learn"


def _equal(problem: TaskScores) -> tuple[str, str, str]:
    immediate, exact = _tuned(problem, IMMEDIATE)
    difference = mean_interval((immediate - exact)[None])
    inside = difference.low > -POINTS and difference.high < POINTS
    outside = difference.low > POINTS or difference.high < -POINTS
    word = "reproduced" if inside else "not reproduced" if outside else "undecided"
    return "score of immediate minus that of rtrl", str(difference), word


def _recovered(problem: TaskScores) -> tuple[str, str, str]:
    sparse, exact = _tuned(problem, SPARSE)
    share = ratio_interval(1 - sparse, 1 - exact)
    word = "reproduced" if share.low >= RECOVERED else "not reproduced" if share.high < RECOVERED else "undecided"
    if PATHS / problem.state_size > SHARE:
        word = f"no test: {PATHS} of {problem.state_size} paths are more than 6 %"
    return "recovery by that of rtrl", str(share), word


def _tuned(problem: TaskScores, strategy: str) -> tuple[np.ndarray, np.ndarray]:
    return problem.runs[strategy].tuned, problem.runs[EXACT].tuned

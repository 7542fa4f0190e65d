"""Claims of papers, tested by name on the runs of the referee."""

import numpy as np

from seqjax.report import Table

from .scores import FROZEN, IMMEDIATE, Problem
from .statistics import Interval, mean_interval

EXACT, SPARSE = "rtrl", "sparse-rtrl:paths=2"
"""The strategies with the exact gradient of the history, and with one through 2 of 32 paths, 6 %."""
POINTS = 0.03
"""Merin (2026, arXiv:2603.28750, version 3) calls recoveries equal within three points."""
LEARNS = 0.5
"""The score of a recurrence that is not trained, above which a task has something to learn."""
RECOVERED = 0.84
"""The recovery that the same author (2026, arXiv:2603.15195) reports for 6 % of the paths."""


def claims(problems: list[Problem]) -> Table:
    """For each task, whether the runs reproduce each claim.

    The recovery of a strategy is one less its score: 1 at the floor, 0 for a recurrence that is not trained. A task on
    which a recurrence has nothing to learn tells nothing, since the score of all strategies is 0.
    """
    rows = []
    for claim, strategy, compare in (
        ("2603.28750: without any propagation the recovery is that of exact RTRL, within .03", IMMEDIATE, _equal),
        ("2603.15195: through 6 % of the paths .84 of the recovery of exact RTRL", SPARSE, _recovered),
    ):
        for problem in problems:
            learns = problem.runs[FROZEN].tuned.mean() > LEARNS
            if learns and EXACT in problem.runs and strategy in problem.runs:
                mine, exact = (problem.runs[name].tuned for name in (strategy, EXACT))
                rows.append((claim, problem.name, problem.status.partition(":")[0], *compare(mine, exact)))
    return Table(("claim", "task", "counts", "what", "estimate (95 % interval)", "here"), rows)


def _equal(immediate: np.ndarray, exact: np.ndarray) -> tuple[str, str, str]:
    difference = mean_interval((immediate - exact)[None])
    inside = difference.low > -POINTS and difference.high < POINTS
    outside = difference.low > POINTS or difference.high < -POINTS
    word = "reproduced" if inside else "not reproduced" if outside else "undecided"
    return "score of immediate less that of rtrl", str(difference), word


def _recovered(sparse: np.ndarray, exact: np.ndarray) -> tuple[str, str, str]:
    """The share of the recovery, with a bootstrap interval over the seeds, which are paired."""
    drawn = np.random.default_rng(0).integers(len(sparse), size=(10_000, len(sparse)))
    shares = (1 - sparse)[drawn].mean(1) / (1 - exact)[drawn].mean(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    share = Interval(float((1 - sparse).mean() / (1 - exact).mean()), float(low), float(high))
    word = "reproduced" if share.low >= RECOVERED else "not reproduced" if share.high < RECOVERED else "undecided"
    return "recovery by that of rtrl", str(share), word

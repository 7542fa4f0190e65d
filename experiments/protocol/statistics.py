"""Statistics of scores, float64[tasks, seeds] for each strategy, which are paired by task and seed.

Lower scores are better. Resamples and signs are drawn from a fixed seed, so that equal scores give equal results.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

RESAMPLES = 10_000
"""The number of bootstrap resamples."""
MOST_EXACT = 12
"""Up to so many differences, all their signs are enumerated in `sign_test`."""
SIGNS = 20_000
"""The number of random signs of more differences."""
LEVEL = 0.05
"""One less the level of the intervals, and the level of the tests."""
MARGIN = 0.05
"""Scores whose difference is smaller than this count as equal."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        # "z": a number that is rounded to zero has no sign.
        return f"{self.value:z.3f} ({self.low:z.3f} to {self.high:z.3f})"

    def excludes(self, number: float) -> bool:
        """Whether a number lies outside."""
        return not self.low <= number <= self.high


class Verdict(NamedTuple):
    """What the scores say about a strategy and a reference.

    Args:
        difference: the mean of the scores of the strategy minus that of the reference.
        p: the p value of a difference of zero, corrected for all comparisons of the family.
        word: "better", "worse", "tie" or "undecided".
        is_limit: whether no lower p value could be found with so many random signs.
    """

    difference: Interval
    p: float
    word: str
    is_limit: bool = False

    @property
    def p_text(self) -> str:
        """The p value in two digits."""
        return f"{'≤ ' if self.is_limit else ''}{self.p:.2g}"

    def mirrored(self) -> "Verdict":
        """That of the reference against the strategy."""
        value, low, high = self.difference
        opposite = {"better": "worse", "worse": "better"}
        return self._replace(difference=Interval(-value, -high, -low), word=opposite.get(self.word, self.word))


def mean_interval(scores_KS: np.ndarray) -> Interval:
    """The mean of all scores or differences, with its stratified bootstrap interval."""
    return _interval(scores_KS.mean(), _resampled(scores_KS), scores_KS.shape[1])


def improvement(scores_KS: np.ndarray, others_KS: np.ndarray) -> Interval:
    """The probability that a run has a lower score than that of the other strategy with the same seed.

    Ties count half, and so do scores that are equal but for rounding. It is averaged over tasks and seeds.
    """
    scores_KS, others_KS = scores_KS.round(6), others_KS.round(6)
    return mean_interval((scores_KS < others_KS) + 0.5 * (scores_KS == others_KS))


def rank_intervals(scores: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """The rank of each strategy by its mean score, from 1, with the interval of its rank in resamples.

    All strategies are resampled with the same seeds, since they are paired. Equal scores share the mean of their ranks.
    """
    ranks_RA = _ranks(np.stack([_resampled(each).mean(1) for each in scores.values()], 1))
    own = _ranks(np.array([[each.mean() for each in scores.values()]]))[0]
    return {name: _interval(own[n], ranks_RA[:, [n]], scores[name].shape[1]) for n, name in enumerate(scores)}


def ranks_without_a_task(scores: Mapping[str, np.ndarray], tasks: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The best and the worst rank of each strategy if the problems of one of the tasks are left out.

    Args:
        scores: strategy -> float64[K, S].
        tasks: the task of each of the K problems. If it is the same for all, none is left out.
    """
    kept = [np.array([each != left_out for each in tasks]) for left_out in dict.fromkeys(tasks)]
    kept = kept if len(kept) > 1 else [np.ones(len(tasks), bool)]
    ranks_MA = _ranks(np.array([[each[rows].mean() for each in scores.values()] for rows in kept]))
    return {name: (ranks_MA[:, n].min().item(), ranks_MA[:, n].max().item()) for n, name in enumerate(scores)}


def sign_test(differences_KS: np.ndarray) -> float:
    """The two-sided p value of the mean of paired differences, by all changes of their signs.

    If two strategies are exchangeable, each difference is as likely as its negative. The p value is the share of the
    signs that give a mean at least as far from zero, in units of its standard error within the tasks. Without this unit
    tasks that disagree would make the p value larger, since the changed signs mix the tasks (Janssen 1997). Of more
    than 12 differences, 20,000 random signs are taken.
    """
    num_tasks, num_seeds = differences_KS.shape
    signs_MKS = _signs(differences_KS.size).reshape(-1, num_tasks, num_seeds)
    means_MK = np.einsum("mks,ks->mk", signs_MKS, differences_KS) / num_seeds
    # The squares do not change with the signs. `maximum`: rounding can make the variance of equal numbers negative.
    variances_MK = np.maximum(np.square(differences_KS).mean(1) - np.square(means_MK), 0)
    sums, errors = np.abs(means_MK.sum(1)), np.sqrt(variances_MK.sum(1))
    # Sums that are zero but for rounding are zero, and so are errors, whose squares are differences of nearly equal
    # numbers: the square root of a rounding error of 1e-16 is 1e-8.
    small = 1e-7 * np.abs(differences_KS).max(initial=1e-300)
    sums, errors = np.where(sums > small, sums, 0), np.where(errors > small, errors, 0)
    statistics = np.where(sums > 0, sums / np.where(errors > 0, errors, 1e-300), 0)
    return float(np.mean(statistics >= statistics[0] * (1 - 1e-9)))


def least_p(num_differences: int, num_comparisons: int) -> float:
    """The lowest corrected p value of so many comparisons."""
    return min(1.0, num_comparisons * (2 / 2**num_differences if num_differences <= MOST_EXACT else 1 / SIGNS))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of a family of tests, corrected so that any false rejection is rare (Holm 1979)."""
    order = np.argsort(p_values)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return np.minimum(corrected, 1).tolist()


def verdicts[Name](pairs: Mapping[Name, tuple[np.ndarray, np.ndarray]]) -> dict[Name, Verdict]:
    """The verdicts of a family of comparisons.

    A tie is a difference whose whole 95 % interval lies within ± .05, whether or not it excludes zero. A strategy
    is better or worse if it is not a tie, the corrected p value is at most .05, and the interval excludes zero. All
    else is undecided.

    Args:
        pairs: name -> scores of a strategy and of its reference, float64[K, S] each.
    """
    differences = {name: mine - reference for name, (mine, reference) in pairs.items()}
    p_values = [sign_test(each) for each in differences.values()]
    found = {}
    for (name, each), p, alone in zip(differences.items(), holm(p_values), p_values, strict=True):
        interval = mean_interval(each)
        if interval.low > -MARGIN and interval.high < MARGIN:
            word = "tie"
        elif p <= LEVEL and interval.excludes(0):
            word = "better" if interval.value < 0 else "worse"
        else:
            word = "undecided"
        found[name] = Verdict(interval, p, word, each.size > MOST_EXACT and alone <= 1 / SIGNS)
    return found


@functools.cache
def _shares(num_tasks: int, num_seeds: int) -> np.ndarray:
    """How often a resample has each seed of a task, as a share, float64[R, K, S].

    The seeds are drawn with replacement within each task.
    """
    drawn = np.random.default_rng(0).integers(num_seeds, size=(RESAMPLES, num_tasks, num_seeds))
    return np.stack([(drawn == each).mean(2) for each in range(num_seeds)], 2)


def _resampled(scores_KS: np.ndarray) -> np.ndarray:
    """The means of all resamples on each task, float64[R, K]."""
    return np.einsum("rks,ks->rk", _shares(*scores_KS.shape), scores_KS)


@functools.cache
def _signs(n: int) -> np.ndarray:
    """All signs of n numbers, or random ones; the first ones are those that were observed, float64[M, n]."""
    if n <= MOST_EXACT:
        return np.array(list(itertools.product([1.0, -1.0], repeat=n)))
    signs = np.random.default_rng(0).choice([1.0, -1.0], (SIGNS, n))
    signs[0] = 1  # so that no p value is zero
    return signs


def _interval(value: float, drawn_RK: np.ndarray, num_seeds: int) -> Interval:
    """The expanded percentile interval of the means of resamples over the tasks.

    Its source is Hesterberg (2015), "What teachers should know about the bootstrap". A resample of n values has a
    variance that is too small by (n - 1) / n, and too short tails: of ten seeds, the plain percentiles contain a mean
    in 90 % of the cases. The percentiles are taken further out, so that a mean of normal values would have its t
    interval. Its degrees of freedom are those of Satterthwaite (1946): with K tasks of equal variance K (S - 1), and
    S - 1 if one task has all of the variance.
    """
    variances_K = drawn_RK.var(0)
    total = np.square(variances_K.sum())
    freedom = (num_seeds - 1) * (total / np.square(variances_K).sum() if total > 0 else 1)
    t = scipy.stats.t.ppf(1 - LEVEL / 2, freedom)
    outside = scipy.stats.norm.cdf(-t * np.sqrt(num_seeds / (num_seeds - 1)))
    low, high = np.percentile(drawn_RK.mean(1), [100 * outside, 100 - 100 * outside])
    return Interval(float(value), float(low), float(high))


def _ranks(means_RA: np.ndarray) -> np.ndarray:
    """The rank of each entry of a row, from 1; equal entries share the mean of their ranks."""
    below = (means_RA[:, None, :] < means_RA[:, :, None]).sum(2)
    equal = (means_RA[:, None, :] == means_RA[:, :, None]).sum(2)
    return below + (equal + 1) / 2

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
    """

    difference: Interval
    p: float
    word: str

    def mirrored(self) -> "Verdict":
        """That of the reference against the strategy."""
        value, low, high = self.difference
        opposite = {"better": "worse", "worse": "better"}
        return Verdict(Interval(-value, -high, -low), self.p, opposite.get(self.word, self.word))


def iqm(scores: np.ndarray) -> np.ndarray:
    """The interquartile mean along the last axis: the mean of the middle half (Agarwal et al. 2021, arXiv:2108.13264).

    Of n values, n / 4 are left out on each side. If this is not a whole number, the outermost values that are kept
    have less weight.

    Args:
        scores: float64[..., n].
    """
    ordered, n = np.sort(scores, -1), scores.shape[-1]
    edges = np.arange(n + 1) / n
    weights = np.maximum(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0)
    return ordered @ (weights / weights.sum())


def score_over_tasks(scores_KS: np.ndarray) -> float:
    """The mean over the tasks of the interquartile mean over the seeds.

    The interquartile mean of all runs together, as in Agarwal et al., would leave out the best and the worst task of a
    strategy if its tasks differ more than its seeds.
    """
    return float(iqm(scores_KS).mean())


def score_interval(scores_KS: np.ndarray) -> Interval:
    """The score over tasks, with its stratified bootstrap interval."""
    return _interval(score_over_tasks(scores_KS), _resampled_scores(scores_KS), *scores_KS.shape)


def mean_interval(differences_KS: np.ndarray) -> Interval:
    """The mean of all differences, with its stratified bootstrap interval."""
    drawn = np.tensordot(_shares(*differences_KS.shape), differences_KS, 2) / len(differences_KS)
    return _interval(differences_KS.mean(), drawn, *differences_KS.shape)


def ratio_interval(parts_S: np.ndarray, wholes_S: np.ndarray) -> Interval:
    """The ratio of two means over the same seeds of one task, with its bootstrap interval."""
    shares_RS = _shares(1, len(parts_S))[:, 0]
    drawn = (shares_RS @ parts_S) / (shares_RS @ wholes_S)
    return _interval(parts_S.mean() / wholes_S.mean(), drawn, 1, len(parts_S))


def improvement(scores_KS: np.ndarray, others_KS: np.ndarray) -> Interval:
    """The probability that a run has a lower score than one of the other strategy on the same task; ties count half.

    It is averaged over the tasks (Agarwal et al. 2021). The interval is that of a stratified bootstrap of both. Scores
    that are equal but for rounding are ties.
    """
    scores_KS, others_KS = scores_KS.round(6), others_KS.round(6)
    wins_KSS = (scores_KS[:, :, None] < others_KS[:, None, :]) + 0.5 * (scores_KS[:, :, None] == others_KS[:, None, :])
    mine_RKS, theirs_RKS = _shares(*scores_KS.shape), _shares(*others_KS.shape, seed=1)
    drawn = np.einsum("rks,kst,rkt->r", mine_RKS, wins_KSS, theirs_RKS, optimize=True) / len(wins_KSS)
    return _interval(wins_KSS.mean(), drawn, *scores_KS.shape)


def rank_intervals(scores: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """The rank of each strategy by its score over tasks, from 1, with the interval of its rank in resamples.

    All strategies are resampled with the same seeds, since they are paired. Equal scores share the mean of their ranks.
    """
    ranks_RA = _ranks(np.stack([_resampled_scores(each) for each in scores.values()], 1))
    own = _ranks(np.array([[score_over_tasks(each) for each in scores.values()]]))[0]
    return {name: _interval(own[n], ranks_RA[:, n], *scores[name].shape) for n, name in enumerate(scores)}


def sign_test(differences: np.ndarray) -> float:
    """The two-sided p value of the mean of paired differences, by all changes of their signs.

    If two strategies are exchangeable, each difference is as likely as its negative. The p value is the share of the
    signs that give a mean at least as far from zero. Of more than 12 differences, 20,000 random signs are taken.
    """
    flat = np.ravel(differences)
    sums = np.abs(_signs(len(flat)) @ flat)
    # Sums that are equal but for rounding count as equal.
    return float(np.mean(sums >= sums[0] - 1e-12 * np.abs(flat).sum()))


def least_p(num_differences: int, num_comparisons: int) -> float:
    """The lowest corrected p value of so many comparisons: all differences of one of them have the same sign."""
    return min(1.0, num_comparisons * 2 / 2**num_differences)


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
    corrected = holm([sign_test(each) for each in differences.values()])
    found = {}
    for (name, each), p in zip(differences.items(), corrected, strict=True):
        interval = mean_interval(each)
        if interval.low > -MARGIN and interval.high < MARGIN:
            word = "tie"
        elif p <= LEVEL and interval.excludes(0):
            word = "better" if interval.value < 0 else "worse"
        else:
            word = "undecided"
        found[name] = Verdict(interval, p, word)
    return found


@functools.cache
def _drawn(num_tasks: int, num_seeds: int, seed: int = 0) -> np.ndarray:
    """The seeds of a stratified bootstrap, which draws them with replacement within each task, int64[R, K, S]."""
    return np.random.default_rng(seed).integers(num_seeds, size=(RESAMPLES, num_tasks, num_seeds))


@functools.cache
def _shares(num_tasks: int, num_seeds: int, seed: int = 0) -> np.ndarray:
    """How often a resample has each seed of a task, as a share, float64[R, K, S]."""
    drawn = _drawn(num_tasks, num_seeds, seed)
    return np.stack([(drawn == each).mean(2) for each in range(num_seeds)], 2)


@functools.cache
def _signs(n: int) -> np.ndarray:
    """All signs of n numbers, or random ones; the first ones are those that were observed, float64[M, n]."""
    if n <= MOST_EXACT:
        return np.array(list(itertools.product([1.0, -1.0], repeat=n)))
    signs = np.random.default_rng(0).choice([1.0, -1.0], (SIGNS, n))
    signs[0] = 1  # so that no p value is zero
    return signs


def _resampled_scores(scores_KS: np.ndarray) -> np.ndarray:
    """The scores over tasks of all resamples, float64[R]."""
    drawn_RKS = np.take_along_axis(scores_KS[None], _drawn(*scores_KS.shape), 2)
    return iqm(drawn_RKS).mean(1)


def _interval(value: float, drawn: np.ndarray, num_tasks: int, num_seeds: int) -> Interval:
    """The expanded percentile interval of resamples (Hesterberg 2015, "What teachers should know about the bootstrap").

    A resample of n values has a variance that is too small by (n - 1) / n, and too short tails: of ten seeds, the plain
    percentiles contain a mean in 90 % of the cases. The percentiles are taken further out, so that a mean of normal
    values would have its t interval, with the degrees of freedom of all tasks.
    """
    t = scipy.stats.t.ppf(1 - LEVEL / 2, num_tasks * (num_seeds - 1))
    outside = scipy.stats.norm.cdf(-t * np.sqrt(num_seeds / (num_seeds - 1)))
    low, high = np.percentile(drawn, [100 * outside, 100 - 100 * outside])
    return Interval(float(value), float(low), float(high))


def _ranks(means_RA: np.ndarray) -> np.ndarray:
    """The rank of each entry of a row, from 1; equal entries share the mean of their ranks."""
    below = (means_RA[:, None, :] < means_RA[:, :, None]).sum(2)
    equal = (means_RA[:, None, :] == means_RA[:, :, None]).sum(2)
    return below + (equal + 1) / 2

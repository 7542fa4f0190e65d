"""`interval`: a bootstrap interval of a mean or a median over seeds."""

from typing import Literal

import numpy as np

RESAMPLES = 10_000
"""The number of resamples of the seeds."""
COLUMNS = 256
"""How many columns are resampled at once, to save memory."""


def interval(
    values: np.ndarray, average: Literal["mean", "median"] = "mean", level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The percentile bootstrap interval of an average over seeds (Efron & Tibshirani 1993, section 13.3).

    The seeds are drawn with replacement `RESAMPLES` times, and the average of each draw is taken. The share `level` of
    these averages lies in the interval. The draws are the same in every call. With few seeds the interval is too
    narrow: for the mean of three seeds, or the median of five, it is the range of the seeds.

    Args:
        values: float[S, N], one row for each seed.
        average: `"mean"` or `"median"`.
        level: the share of the averages in the interval.

    Returns:
        The lower and the upper ends, float64[N] each; NaN where a value is not finite.
    """
    values = np.asarray(values, np.float64)
    num_seeds = len(values)
    draws = np.random.default_rng(0).integers(num_seeds, size=(RESAMPLES, num_seeds))
    if average == "mean":
        weights = np.stack([np.count_nonzero(draws == seed, axis=1) for seed in range(num_seeds)], 1) / num_seeds
    else:
        # In a sorted column, the median of a draw is at the median of the drawn ranks.
        values, ranks = np.sort(values, axis=0), np.sort(draws, axis=1)
        middle = ranks[:, [(num_seeds - 1) // 2, num_seeds // 2]]
        weights = np.stack([np.mean(middle == rank, axis=1) for rank in range(num_seeds)], 1)
    tail = 50 * (1 - level)
    with np.errstate(invalid="ignore"):
        ends = [
            np.percentile(weights @ values[:, n : n + COLUMNS], [tail, 100 - tail], axis=0)
            for n in range(0, values.shape[1], COLUMNS)
        ]
    low, high = np.concatenate([np.zeros((2, 0)), *ends], axis=1)
    return low, high

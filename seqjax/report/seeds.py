"""The average over the seeds of a variant, which may have trained different numbers of epochs."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from seqjax.errors import counted
from seqjax.report.bootstrap import interval


class Seeds(NamedTuple):
    """The runs of a variant that are drawn.

    Args:
        runs: the runs that trained as long as the longest one, and the runs that ended early on purpose, by early
            stopping or by a callback.
        left_out: the number of other runs, which diverged or are unfinished.
    """

    runs: list[Any]
    left_out: int

    @property
    def in_words(self) -> str:
        """How many runs are drawn and left out, in words."""
        out = f", {self.left_out} left out" if self.left_out else ""
        return counted(len(self.runs), "seed") + out

    @property
    def lengths(self) -> list[int]:
        """The number of epochs of each run."""
        return [len(run.metrics) for run in self.runs]

    def column(self, name: str) -> np.ndarray:
        """A column of the metrics, float64[seeds, epochs]; NaN after the end of a run, and where it has no value."""
        values = np.full((len(self.runs), max(self.lengths, default=0)), math.nan)
        for row, run in zip(values, self.runs, strict=True):
            row[: len(run.metrics)] = [each.get(name, math.nan) for each in run.metrics]
        return values


def seeds_of(group: Sequence[Any]) -> Seeds:
    """The runs of a variant that are drawn.

    The legend counts the runs that are left out, because an average without the diverged runs would be misleading.
    """
    longest = max(len(run.metrics) for run in group)
    drawn = [run for run in group if run.metrics and (len(run.metrics) == longest or run.ending)]
    return Seeds(drawn, len(group) - len(drawn))


def average_and_band(
    values_SN: np.ndarray,
    lengths: Sequence[int],
    average: Literal["mean", "median"],
    band: Literal["interval", "range"],
) -> np.ndarray:
    """The average over the seeds that have an epoch, and the band around it.

    Args:
        values_SN: float64[S, N], one row for each seed.
        lengths: the number of epochs of each seed; what follows them in its row is not read.
        average: `"mean"` or `"median"`.
        band: `"interval"`, as `interval` computes it; or `"range"`, from the lowest to the highest value.

    Returns:
        float64[3, N]: the average, and the lower and the upper end of the band; NaN where a seed that has the epoch has
        no finite value. Where a single seed is left, the band is NaN.
    """
    curves = np.full((3, values_SN.shape[1]), math.nan)
    begin = 0
    for end in sorted({*lengths}):  # between two ends, the seeds are the same
        part = values_SN[np.array(lengths) >= end, begin:end]
        curves[0, begin:end] = (np.mean if average == "mean" else np.median)(part, 0)
        if len(part) > 1:
            curves[1:, begin:end] = interval(part, average) if band == "interval" else (part.min(0), part.max(0))
        begin = end
    return curves


def counts_of(lengths: Sequence[int]) -> list[int]:
    """The numbers of seeds over which a line is averaged, from its first epoch to its last one."""
    return [sum(length >= end for length in lengths) for end in sorted({*lengths})] or [0]


def caption_of(seeds: str, counts: Sequence[int], average: str, band: str, of: str = "seed") -> str:
    """What lines and bands show: averages of `seeds`, such as "3 seeds"; variants have these numbers of seeds."""
    if max(counts) < 2:
        return seeds
    what = f"{average} of {seeds}; band: "
    if band == "range" or max(counts) == 2:
        return what + "lowest to highest"
    of_two = f" (of 2 {of}s: lowest to highest)" if 2 in counts else ""
    return f"{what}95\u202f% bootstrap interval of the {average}{of_two}"

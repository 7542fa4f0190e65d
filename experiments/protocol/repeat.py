"""Repeats some runs of somebody else, and compares their losses with those here.

The same run has the same losses on the same kind of processor. On another one they are rounded in another way, and
training can be chaotic: from some block on, a difference in the last place has become as large as the loss itself. So
losses are compared one by one as long as rounding changes them little, and on average from there on.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .compute import as_array
from .scores import Contender, contender_of
from .tasks import Feed
from .training import BLOCKS, Trained, tail

REPEATED = 10
"""How many runs of a file that count are repeated, and how many of the others."""
AGREES, TIMES, COPIES = 1e-3, 10, 3
"""Two runs agree if each block differs by no more than this relative difference, plus this many times what rounding
changes, which is measured on so many runs whose learning rates differ in the last place."""
MOST_TOLERATED = 0.02
"""Where more than this share of a loss would be tolerated, training is chaotic, and single runs are not compared."""


class Repetition(NamedTuple):
    """What the repeated runs say of a file.

    Args:
        wrong: what is not that of the same run here; "": nothing.
        num_repeated: how many runs were repeated.
        num_chaotic: how many of them were not compared one by one to their end.
        differences: of each of these that counts with any budget, those of `_differences`.
    """

    wrong: str
    num_repeated: int
    num_chaotic: int
    differences: list[tuple[float, float]]


class Comparison(NamedTuple):
    """What the blocks of two runs say.

    Args:
        different: the first block that rounding does not explain; None: there is none.
        end: the block from which on the runs are not compared, since training is chaotic; `BLOCKS`: none.
    """

    different: int | None
    end: int


def repeat(
    run: Callable[..., Trained], feed_of: Callable[[int], Feed], seeds: Sequence[int], result: dict[str, Any]
) -> Repetition:
    """Repeats runs that are drawn at random.

    Args:
        run: what `compile_run` gives.
        feed_of: the data of a seed.
        seeds: the seeds.
        result: the content of the file, whose form was checked.
    """
    num_repeated, num_chaotic, differences = 0, 0, []
    clipped: dict[int, list[float]] = defaultdict(list)

    def repetition(wrong: str) -> Repetition:
        return Repetition(wrong, num_repeated, num_chaotic, differences)

    for candidate, column, counts in _drawn(contender_of([("", 0, result)])):
        seed, runs = seeds[column], result["runs"][candidate]
        trained = run(seed, runs["rate"], runs["clip"], feed := feed_of(seed))
        here, there = _finite(trained.blocks), _finite(as_array(runs["blocks"][column]))
        copies = np.empty((0, BLOCKS))
        if not _agree(here, there).all():
            # What rounding changes is measured only where something differs, since that takes more runs.
            rates = np.float32(runs["rate"]) * (1 + np.arange(1, COPIES + 1) * np.float32(2) ** -22)
            copies = np.array([_finite(run(seed, float(rate), runs["clip"], feed).blocks) for rate in rates])
        found = compare(here, copies, there)
        if (block := found.different) is not None:
            wrong = f"the loss of block {block + 1} of {BLOCKS} is {here[block]:.6g} here, and {there[block]:.6g} there"
            return repetition(f"with seed {seed}, {named(runs)}, {wrong}")
        num_repeated += 1
        if found.end == BLOCKS:
            clipped[candidate].append(trained.clipped)
        else:
            num_chaotic += 1
            # Runs that do not count are left out: if they were higher in the file, they would hide lower ones.
            differences += [_differences(there, here, found.end)] if counts else []
    for candidate, shares in clipped.items():
        if wrong := _share_differs(shares, result["runs"][candidate], len(seeds)):
            return repetition(wrong)
    return repetition("")


def named(runs: dict[str, Any]) -> str:
    """The rate and the clip of some runs, in words."""
    return (
        f"the rate {runs['rate']:g} and {'no clip' if runs['clip'] is None else 'the clip {:g}'.format(runs['clip'])}"
    )


def compare(here_N: np.ndarray, copies_CN: np.ndarray, there_N: np.ndarray) -> Comparison:
    """Compares the blocks of a run in a file with those of the same run here.

    Args:
        here_N: the blocks here.
        copies_CN: those of runs here whose learning rates differ in the last place.
        there_N: the blocks in the file.
    """
    # What rounding changes grows from block to block, since training is chaotic.
    changes_N = np.maximum.accumulate(np.nan_to_num(np.abs(copies_CN - here_N), nan=np.inf).max(0, initial=0))
    allowed_N = AGREES * np.abs(here_N) + TIMES * changes_N
    # If all runs here diverge, so does that in the file.
    diverged_N = ~np.isfinite(here_N) & ~np.isfinite(copies_CN).any(0)
    compared_N = np.logical_and.accumulate(diverged_N | (allowed_N <= MOST_TOLERATED * np.abs(here_N)))
    equal_N = np.where(diverged_N, ~np.isfinite(there_N), np.abs(there_N - here_N) <= allowed_N)
    different_N = compared_N & ~equal_N
    return Comparison(int(different_N.argmax()) if different_N.any() else None, int(compared_N.sum()))


def _finite(blocks: np.ndarray) -> np.ndarray:
    """The blocks with NaN for all that is not finite, as a file has them."""
    return np.where(np.isfinite(blocks), blocks, np.nan)


def _agree(here_N: np.ndarray, there_N: np.ndarray) -> np.ndarray:
    """The blocks that agree without a look at what rounding changes."""
    return (np.abs(there_N - here_N) <= AGREES * np.abs(here_N)) | (~np.isfinite(here_N) & ~np.isfinite(there_N))


def _drawn(contender: Contender) -> list[tuple[int, int, bool]]:
    """The runs that are repeated: some that count with any budget, and some others. Candidate, seed, does it count?

    The others help to choose those that count. There is no seed, so that the sender cannot know what is drawn.
    """
    num_candidates, num_seeds, _ = contender.losses.shape
    counting = {(n, s) for blocks in range(1, BLOCKS + 1) for s, n in enumerate(contender.chosen(blocks))}
    others = {(n, s) for n in range(num_candidates) for s in range(num_seeds)} - counting
    rng = np.random.default_rng()
    return [
        (*group[index], counts)
        for counts, group in ((True, sorted(counting)), (False, sorted(others)))
        for index in rng.choice(len(group), min(REPEATED, len(group)), replace=False)
    ]


def _differences(there: np.ndarray, here: np.ndarray, end: int) -> tuple[float, float]:
    """The relative differences of two runs, between -1 and 1: the mean over all chaotic blocks, and that of the tails.

    Scores after a part of the training need the first one. The second one alone would be hidden in a long mean.

    Args:
        there: the blocks in the file.
        here: the blocks here.
        end: the first chaotic block.
    """
    return float(_relative(there[end:], here[end:]).mean()), float(_relative(tail(there), tail(here)))


def _relative(there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """The differences in units of the larger loss, so that they change their signs if both runs are exchanged.

    A run that diverged counts as much higher.
    """
    larger = np.maximum(np.maximum(np.abs(there), np.abs(here)), np.finfo(np.float32).tiny)
    finite = np.isfinite(there) & np.isfinite(here)
    units = np.where(finite, larger, 1)
    relative = (np.where(finite, there, 0) - np.where(finite, here, 0)) / units
    return np.where(finite, np.clip(relative, -1, 1), np.isfinite(here) * 1.0 - np.isfinite(there) * 1.0)


def _share_differs(shares: list[float], runs: dict[str, Any], num_seeds: int) -> str:
    """What is wrong about the share of clipped updates in a file, which is the mean over all seeds; "": nothing.

    Args:
        shares: those of the repeated seeds. The others are between 0 and 1.
        runs: the runs of the file with one rate and one clip.
        num_seeds: the number of all seeds.
    """
    least = sum(shares) / num_seeds
    most = least + (num_seeds - len(shares)) / num_seeds
    if least - AGREES <= runs["clipped"] <= most + AGREES:
        return ""
    return (
        f"with {named(runs)}, {np.mean(shares):.3f} of the updates of {len(shares)} seeds are clipped, and the file "
        f"says {runs['clipped']:.3f} for all {num_seeds} seeds"
    )

"""Samplers: which windows of a stream make an epoch."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int

from seqjax.errors import Error
from seqjax.plugin.base import Plugin


class Plan(NamedTuple):
    """One epoch of windows: N batches of B rows, each a window of T steps.

    Args:
        starts: int64[N, B]. A window reads `inputs[s : s + T]` and `targets[s : s + T]`.
        scored: int32[N, B, 2]. The steps first <= t < last of a window are scored; an empty range fills up a batch.
        reset: bool[N, B]. True: the row starts a sequence. False: it continues the same row of the batch before.
    """

    starts: Any
    scored: Any
    reset: Any


class Sampler(Plugin):
    """Chooses the windows of an epoch. It only does index arithmetic, so it works on any array.

    An author's class has the fields `batch_size` (rows B) and `num_steps` (window length T).
    """

    kind: ClassVar[str] = "sampler"
    batch_size: Any
    num_steps: Any

    def plan(self, bounds: np.ndarray, rng: np.random.Generator) -> Plan:
        """The windows of one epoch over documents bounds[d] <= t < bounds[d + 1].

        Raises:
            Error: the documents are too short for a single batch.
        """
        raise NotImplementedError


def draw_plan(sampler: Sampler, bounds: Int[np.ndarray, " bounds"], seed: int, epoch: int) -> Plan:
    """The checked plan of one epoch: a function of seed and epoch alone, so that any epoch can be planned again.

    Args:
        sampler: whose plan.
        bounds: int64[D + 1], where the documents of the stream begin and end.
        seed: of the run.
        epoch: counted from 0.

    Raises:
        Error: the documents are too short for a single batch; the sampler returns something else than a plan of windows
            inside documents.
    """
    return check_plan(sampler.plan(bounds, np.random.default_rng((seed, epoch))), sampler, bounds)


def check_plan(plan: Plan, sampler: Any, bounds: Int[np.ndarray, " bounds"]) -> Plan:
    """The plan as numpy arrays.

    Raises:
        Error: other shapes or dtypes than those of a plan; a window whose scored steps do not lie in one document.
    """
    name = f"sampler {type(sampler).__name__}"
    plan = Plan(*map(np.asarray, plan))
    B, T = sampler.batch_size, sampler.num_steps
    shape = (max(1, len(plan.starts)), B)
    good = [(a.shape, a.dtype.kind) for a in plan] == [(shape, "i"), ((*shape, 2), "i"), (shape, "b")]
    if not good or (plan.starts < 0).any() or (plan.scored < 0).any() or (plan.scored > T).any():
        raise Error(f"{name}: a plan is int[N, {B}], int[N, {B}, 2] up to {T}, bool[N, {B}]")
    first, last = np.moveaxis(plan.scored, -1, 0)
    if (plan.starts + last > bounds[-1]).any():
        raise Error(f"{name}: its plan scores steps past the end of the stream, {bounds[-1]:,}")
    # The state of a window is carried from its first step to its last scored one, so no bound may lie between them.
    is_scored = first < last
    begin, end = plan.starts[is_scored], (plan.starts + last)[is_scored]
    crosses = np.searchsorted(bounds, begin, side="right") != np.searchsorted(bounds, end - 1, side="right")
    if crosses.any():
        n = int(np.argmax(crosses))
        raise Error(
            f"{name}: its plan crosses documents: {crosses.sum():,} of {len(begin):,} windows do, such as steps "
            f"{begin[n]:,} to {end[n]:,}; cut windows at the bounds that `plan` is given, as cut_windows does"
        )
    return plan


def cut_windows(first: Any, last: Any, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows side by side over segments first[i] <= t < last[i].

    Returns:
        Of each window its start, its length (at most T; shorter at a segment's end) and its segment i.
    """
    first, last = np.asarray(first, np.int64), np.asarray(last, np.int64)
    counts = -(-(last - first) // num_steps)
    segment = np.repeat(np.arange(len(first)), counts)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = first[segment] + nth * num_steps
    return starts, np.minimum(num_steps, last[segment] - starts), segment


def in_order(bounds: Int[np.ndarray, " bounds"], num_steps: int) -> Plan:
    """Every target once, in order, in one row, which is reset at the start of each document: what evaluation reads."""
    starts, lengths, document = cut_windows(bounds[:-1], bounds[1:], num_steps)
    scored = np.stack([np.zeros_like(lengths), lengths], -1).astype(np.int32)
    reset = np.diff(document, prepend=-1) > 0
    return Plan(starts[:, None], scored[:, None], reset[:, None])

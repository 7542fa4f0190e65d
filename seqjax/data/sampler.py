"""`Sampler` and `Plan`: which windows of a stream make an epoch."""

import heapq
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int

from seqjax.errors import Error, dtype_shape, is_whole
from seqjax.plugin.base import Plugin
from seqjax.plugin.registry import name_of

BATCH_SIZE = 32
"""The default number of rows."""
NUM_STEPS = 35
"""The default length of a window, in time steps."""


class Plan(NamedTuple):
    """One epoch of windows: N batches of B rows, each a window of T steps.

    >>> import numpy as np
    >>> from seqjax.samplers import Sequential
    >>> plan = Sequential(batch_size=2, num_steps=3).plan(np.array([0, 12]), np.random.default_rng(0))
    >>> plan.starts.tolist()  # one batch of two windows
    [[3, 7]]
    >>> plan.scored.tolist(), plan.reset.tolist()
    ([[[0, 3], [0, 3]]], [[True, True]])

    Args:
        starts: int64[N, B]. A window reads `inputs[s : s + T]` and `targets[s : s + T]`.
        scored: int32[N, B, 2]. The steps first <= t < last of a window are scored. Windows with an empty range fill up
            a batch.
        reset: bool[N, B]. True: the row starts a sequence. False: it continues the same row of the previous batch.
    """

    starts: Any
    scored: Any
    reset: Any


class Sampler(Plugin):
    """Chooses the windows of an epoch. It computes indices alone, so it works for every kind of data.

    The author writes `plan`, and the fields `batch_size` (B, the number of rows) and `num_steps` (T, the length of a
    window).

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> import seqjax as sj
    >>> from seqjax.data import in_order
    >>> @dataclass(frozen=True)
    ... class OneRow(sj.Sampler):
    ...     num_steps: int = 3
    ...     batch_size = 1
    ...     def plan(self, bounds, rng):
    ...         return in_order(bounds, self.num_steps)
    >>> OneRow().plan(np.array([0, 5, 8]), np.random.default_rng(0)).starts.tolist()
    [[0], [3], [5]]
    """

    kind: ClassVar[str] = "sampler"
    batch_size: Any
    num_steps: Any
    most_visits: Any = None
    """The largest number of times that an epoch trains a target; None: there is no limit.

    A class attribute or a property, not a hyper-parameter.
    """

    def plan(self, bounds: np.ndarray, rng: np.random.Generator) -> Plan:
        """The windows of one epoch.

        Every epoch should have the same number of batches; otherwise JAX compiles again. `cut_windows` cuts windows
        that cross no bound of documents.

        Args:
            bounds: int64[D + 1]; document d has the targets bounds[d] <= t < bounds[d + 1]. Documents may be empty.
            rng: the randomness, a function of the run's seed and the epoch.

        Raises:
            Error: the documents are too short for a single batch.
        """
        raise NotImplementedError


SHARD = 2**26
"""The approximate number of targets that are planned at a time: a plan takes about one byte for each step of a
window."""


def shard_edges(bounds: Int[np.ndarray, " bounds"]) -> np.ndarray:
    """int64[S + 1], where a long stream is cut into shards, which are planned one after the other.

    A short stream is one shard. A document that is cut continues as a new sequence.
    """
    count = max(1, round(int(bounds[-1]) / SHARD))
    return int(bounds[-1]) * np.arange(count + 1) // count


def draw_plan(sampler: Sampler, bounds: Int[np.ndarray, " bounds"], seed: int, epoch: int, shard: int = 0) -> Plan:
    """Draws the plan of one epoch, or of one shard of it, and checks it.

    It is a function of the seed, the epoch and the shard alone, so that any plan can be drawn again.

    Args:
        sampler: chooses the windows.
        bounds: int64[D + 1], where the documents of the stream begin and end.
        seed: the seed of the run.
        epoch: the number of the epoch, from 0.
        shard: the number of the shard of `shard_edges`, from 0.

    Raises:
        Error: the documents are too short for a single batch; the sampler did not return a plan of windows inside
            documents.
    """
    edges = shard_edges(bounds)
    first, last = edges[shard : shard + 2]
    inside = bounds[np.searchsorted(bounds, first, "right") : np.searchsorted(bounds, last)]
    bounds = np.asarray(bounds).view() if len(edges) == 2 else np.concatenate([[first], inside, [last]]) - first
    # Only the view is read-only. A sampler that sorted or shifted the bounds in place would change the stream.
    bounds.flags.writeable = False
    plan = sampler.plan(bounds, np.random.default_rng((seed, epoch, *([shard] if len(edges) > 2 else []))))
    plan = check_plan(plan, sampler, bounds)
    return plan._replace(starts=plan.starts + first) if first else plan


def check_fields(sampler: Sampler) -> None:
    """Checks that a sampler has the fields `batch_size` and `num_steps`.

    Raises:
        Error: one of them is missing, or is no whole number.
    """
    for field in ("batch_size", "num_steps"):
        if not is_whole(getattr(sampler, field, None)):
            raise Error(f"sampler {name_of(sampler)}: it needs a field {field}, such as {field}: int = 32")


def check_plan(plan: Plan, sampler: Any, bounds: Int[np.ndarray, " bounds"]) -> Plan:
    """The plan as numpy arrays.

    Raises:
        Error: a shape or dtype is not as in `Plan`; a window is not inside one document up to its last scored step.
    """
    name = f"sampler {name_of(sampler)}"
    if not isinstance(plan, Plan):
        returned = dtype_shape(plan)
        raise Error(f"{name}: plan returned {returned}, and must return seqjax.Plan(starts, scored, reset)")
    plan = Plan(*map(np.asarray, plan))
    B, T = sampler.batch_size, sampler.num_steps
    N = len(plan.starts) if plan.starts.ndim else 0
    for field, array, kind, shape in zip(Plan._fields, plan, "iib", ((N, B), (N, B, 2), (N, B)), strict=True):
        if (array.shape, array.dtype.kind) != (shape, kind):
            wanted = {"i": "int", "b": "bool"}[kind] + str(list(shape)).replace(f"[{N}", "[N", 1)
            raise Error(f"{name}: plan returned {field} = {dtype_shape(array)}, and must return {wanted} for N batches")
    if not N:
        raise Error(f"{name}: plan returned no batch; raise seqjax.Error where the documents are too short for one")
    first, last = np.moveaxis(plan.scored, -1, 0)
    if (plan.starts < 0).any() or (plan.scored < 0).any() or (last > T).any():
        raise Error(
            f"{name}: plan returned windows that start from {plan.starts.min():,} on, with scored ranges from "
            f"{plan.scored.min()} to {last.max()}; starts are at least 0, and a range lies in 0 to num_steps = {T}"
        )
    if (plan.starts + last > bounds[-1]).any():
        raise Error(f"{name}: its plan scores steps past the end of the stream, {bounds[-1]:,}")
    # The state is carried from the first step of a window to its last scored step, so no bound may lie between them.
    is_scored = first < last
    begin, end = plan.starts[is_scored], (plan.starts + last)[is_scored]
    crosses = np.searchsorted(bounds, begin, side="right") != np.searchsorted(bounds, end - 1, side="right")
    if crosses.any():
        n = int(np.argmax(crosses))
        raise Error(
            f"{name}: {crosses.sum():,} of the {len(begin):,} windows of its plan cross a bound of documents, such as "
            f"the window of the steps {begin[n]:,} to {end[n]:,}\n"
            "Cut windows at the bounds that `plan` is given, as seqjax.data.cut_windows does"
        )
    return plan


def cut_windows(first: Any, last: Any, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts segments into windows of `num_steps`, each of which begins where the previous one ends.

    Args:
        first: int[S], the first step of each segment.
        last: int[S], the step after its last one.
        num_steps: T.

    Returns:
        For each window its start, its length and the number of its segment, int64[W] each. Only the last window of a
        segment may be shorter than T.
    """
    first, last = np.asarray(first, np.int64), np.asarray(last, np.int64)
    counts = -(-(last - first) // num_steps)
    segment = np.repeat(np.arange(len(first)), counts)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = first[segment] + nth * num_steps
    return starts, np.minimum(num_steps, last[segment] - starts), segment


def in_order(bounds: Int[np.ndarray, " bounds"], num_steps: int) -> Plan:
    """The plan of a single row that reads every target once, in order, and is reset where a document starts.

    Args:
        bounds: int64[D + 1], where the documents of the stream begin and end.
        num_steps: T.
    """
    starts, lengths, document = cut_windows(bounds[:-1], bounds[1:], num_steps)
    scored = np.stack([np.zeros_like(lengths), lengths], -1).astype(np.int32)
    reset = np.diff(document, prepend=-1) > 0
    return Plan(starts[:, None], scored[:, None], reset[:, None])


def in_order_by_rows(bounds: Int[np.ndarray, " bounds"], num_steps: int, num_rows: int) -> Plan:
    """A plan that reads every target once, in rows that read different documents at the same time.

    The windows of a document follow each other in one row, which is reset where the document starts.

    Args:
        bounds: int64[D + 1], where the documents of the stream begin and end.
        num_steps: T.
        num_rows: the largest number of rows. There are fewer if some would have little to read.

    Returns:
        The plan, leaves [N, B, ...]. Nothing is scored in the last windows of a row that has fewer than the others.
    """
    one = in_order(bounds, num_steps)
    count = len(one.starts)
    if not count:
        return one
    reset = one.reset[:, 0]
    firsts = np.flatnonzero(reset)
    counts = np.diff(firsts, append=count)
    row, begin, height = _stack(counts, max(1, min(num_rows, count // counts.max())))
    # Fewer rows may have the same height.
    row, begin, height = _stack(counts, -(-count // height))
    row, at = np.repeat(row, counts), np.repeat(begin - firsts, counts) + np.arange(count)
    shape = (height, row.max() + 1)
    starts, scored, is_reset = np.zeros(shape, np.int64), np.zeros((*shape, 2), np.int32), np.ones(shape, bool)
    starts[at, row], scored[at, row], is_reset[at, row] = one.starts[:, 0], one.scored[:, 0], reset
    return Plan(starts, scored, is_reset)


def _stack(heights: np.ndarray, num_stacks: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Puts the highest item that is left onto the lowest stack, until none is left.

    Returns:
        For each item its stack, and the height at which it lies; and the height of the highest stack.
    """
    stacks = [(0, n) for n in range(num_stacks)]
    stack, begin = np.empty_like(heights), np.empty_like(heights)
    for item in np.argsort(-heights, kind="stable").tolist():
        height, n = stacks[0]
        stack[item], begin[item] = n, height
        heapq.heapreplace(stacks, (height + int(heights[item]), n))
    return stack, begin, max(stacks)[0]

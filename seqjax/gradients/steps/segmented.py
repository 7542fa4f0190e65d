"""Runs the steps of a window segment after segment; the reverse pass keeps the carry at the start of each segment only.

A segment of the reverse pass is computed again from its first carry (`jax.checkpoint`), so that the residuals of one
segment are kept at a time. The caller passes the function that runs a segment, with its loops.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from seqjax.gradients.steps.floats import combine, partition_float
from seqjax.gradients.steps.tangents import with_tangent_of


class Steps(NamedTuple):
    """What consecutive steps read: a part of arrays [T, ...] that is sliced where it is read.

    Slicing a differentiated array inside a scan costs T² additions in the backward pass. So a constant copy is sliced
    for the values, and the gradient flows through a second array of zeros that the scan slices by itself; XLA removes
    the zeros. Parts of parts are never copied, since only their first step is passed on.

    Args:
        arrays: leaves [T, ...]. Their parts are read as constants.
        zeros: for each float leaf zeros [n, ...], with the tangents of these n steps; None for other leaves.
        first: int32[], the first of the n steps.
        length: n.
        num_steps: T.
    """

    arrays: Any
    zeros: Any
    first: Any
    length: int
    num_steps: int

    @classmethod
    def of(cls, tree: PyTree, num_steps: int) -> "Steps":
        """All steps, of a tree with leaves [T, ...]."""
        zeros = jax.tree.map(lambda a: with_tangent_of(jnp.zeros_like(a), a), partition_float(tree)[0])
        return cls(tree, zeros, 0, num_steps, num_steps)

    def read(self) -> PyTree:
        """The arrays of these steps, leaves [n, ...]."""
        if self.length == self.num_steps:
            return self.arrays

        def part(a):
            return jax.lax.dynamic_slice_in_dim(jax.lax.stop_gradient(a), self.first, self.length)

        floats, others = jax.tree.map(part, partition_float(self.arrays))
        return combine(jax.tree.map(with_tangent_of, floats, self.zeros), others)

    def part(self, first: int, last: int) -> "Steps":
        """The steps from `first` to `last`, without `last`, counted within these steps."""
        zeros = jax.tree.map(lambda a: a[first:last], self.zeros)
        return self._replace(zeros=zeros, first=self.first + first, length=last - first)

    def parts(self, firsts: np.ndarray, size: int) -> tuple[PyTree, Callable[[PyTree], "Steps"]]:
        """N parts of `size` steps each.

        Args:
            firsts: int[N], the first step of each part, ascending at equal distances, counted within these steps.
            size: the number of steps of a part.

        Returns:
            Arrays [N, ...] to scan over, and the function from one entry of these to the part.
        """
        start, stop = firsts[0], firsts[-1] + size
        if len(firsts) * size == stop - start:
            zeros = jax.tree.map(lambda a: a[start:stop].reshape(len(firsts), size, *a.shape[1:]), self.zeros)
        else:
            zeros = jax.tree.map(lambda a: a[firsts[:, None] + np.arange(size)], self.zeros)

        def part(entry):
            first, zeros = entry
            return self._replace(zeros=zeros, first=first, length=size)

        return (self.first + firsts.astype(np.int32), zeros), part


class Overlap(NamedTuple):
    """How a window is cut into segments whose results reach back to `lead` steps before each of them.

    Segment j reaches back to the start of the window if its lead begins before step 1: j size - lead < 1. The head
    consists of these segments, which are run together.

    Args:
        head: the number of steps of the head.
        entered: the step at which the lead of the first segment after the head starts.
        whole: the number of whole segments after the head.
        rest: the number of steps after these.
    """

    head: int
    entered: int
    whole: int
    rest: int

    @classmethod
    def of(cls, num_steps: int, size: int, lead: int) -> "Overlap":
        """Cuts a window of `num_steps` steps into segments of `size` steps."""
        head = min((size + lead) // size * size, num_steps)
        return cls(head, max(head - lead, 0), *divmod(num_steps - head, size))


def parts_between(lead: int, mid: int, num_steps: int) -> Iterator[tuple[int, int]]:
    """The consecutive parts (first, last) of a segment and its lead, cut after the lead and before step `mid`."""
    return itertools.pairwise(sorted({0, lead, min(mid, num_steps), num_steps}))


Run = Callable[[Any, Steps], tuple[Any, PyTree]]
"""(carry, n steps) -> (the carry after these steps, their results with leaves [n, ...])."""
Enter = Callable[[Any, Any], Any]
"""(carry, bool[]) -> the carry with which a segment starts; the flag is True at the start of the window."""


def run_segments(
    run: Run, carry: Any, steps: Steps, size: int, enter: Enter | None = None, reverse: bool = False
) -> tuple[Any, PyTree]:
    """Runs a window segment after segment, of `size` steps each; the last one may have fewer.

    Args:
        run: runs the steps of one segment, in the order of execution that `reverse` gives.
        carry: what enters the first segment.
        steps: all T steps of the window.
        size: the number of steps of a segment.
        enter: changes the carry at the start of each segment, such as by cutting its tangents; None: it is unchanged.
        reverse: whether the last step is executed first, as in `jax.lax.scan`.

    Returns:
        The carry after all steps, and the results of the steps, leaves [T, ...].
    """
    num_steps = steps.length
    if size >= num_steps:
        return run(carry, steps)
    count, rest = divmod(num_steps, size)
    order = Order(reverse, num_steps)
    entries, part = steps.parts(order.starts(size * np.arange(count), size), size)

    def segment(carry, inputs):
        is_first, entry = inputs
        return run(carry if enter is None else enter(carry, is_first), part(entry))

    is_first = np.arange(count) == (count - 1 if reverse else 0)
    # Inside a scan XLA cannot merge the second computation of a segment with the first one, so nothing is needed to
    # prevent it.
    body = jax.checkpoint(segment, prevent_cse=False)
    carry, results = jax.lax.scan(body, carry, (is_first, entries), reverse=reverse)
    results = _flat(results, count * size)
    if not rest:
        return carry, results
    carry = carry if enter is None else enter(carry, jnp.zeros((), bool))
    carry, last = run(carry, order.part(steps, num_steps - rest, num_steps))
    return carry, order.join([results, last])


def run_checkpointed(run: Run, carry: Any, steps: Steps, levels: int, reverse: bool = False) -> tuple[Any, PyTree]:
    """Runs a window with `levels` levels of segments, so that the reverse pass keeps few carries.

    With one level, T steps are cut into about √T segments of √T steps. The reverse pass keeps the carries between
    segments, and computes one segment at a time again (Chen et al. 2016, "Training deep nets with sublinear memory
    cost", arXiv:1604.06174). With n levels each segment is itself cut into segments with n - 1 levels: about
    (n + 1) T^(1 / (n + 1)) carries are kept, and each step is computed n + 1 times forwards (Griewank & Walther 2000,
    "Algorithm 799: revolve", derive the optimal schedules).

    Args:
        run: as in `run_segments`.
        carry: what enters the first step.
        steps: all T steps of the window.
        levels: n, at least 0; 0 keeps the residuals of all steps.
        reverse: as in `run_segments`.
    """
    if levels == 0:
        return run(carry, steps)

    def run_inside(carry, steps):
        return run_checkpointed(run, carry, steps, levels - 1, reverse)

    return run_segments(run_inside, carry, steps, segment_size(steps.length, levels), reverse=reverse)


def segment_size(num_steps: int, levels: int) -> int:
    """The length of the segments into which T steps are cut, about T^(n / (n + 1)) with n levels."""
    if levels == 1:
        return math.isqrt(num_steps)
    # A power in floating point may end just below a whole number.
    return max(1, math.floor(num_steps ** (levels / (levels + 1)) + 1e-9))


def run_overlapping(
    run: Run, carry: Any, steps: Steps, size: int, lead: int, cut: Callable[[Any], Any], reverse: bool = False
) -> tuple[Any, PyTree]:
    """Runs a window segment after segment, where the results of a segment reach back to `lead` steps before it.

    The carry that enters the lead of a segment is cut. Segments that reach back to the start of the window are run
    together. Each other step is computed 1 + lead / size times.

    Args:
        run: as in `run_segments`.
        carry: what enters the first step.
        steps: all T steps of the window.
        size: the number of steps of a segment, whose results are returned.
        lead: the number of steps before a segment to which its results reach back.
        cut: (carry) -> the same carry without tangents.
        reverse: as in `run_segments`.
    """
    num_steps = steps.length
    order = Order(reverse, num_steps)
    head, entered, count, rest = Overlap.of(num_steps, size, lead)

    def run_part(carry, steps, lead, mid):
        """Runs steps, and returns the carry that enters step `mid`, the last carry, and the results from `lead` on."""
        within, entering, results = Order(reverse, steps.length), carry, []
        for first, last in parts_between(lead, mid, steps.length):
            carry, some = run(carry, within.part(steps, first, last))
            results += [some] if first >= lead else []
            entering = carry if last == mid else entering
        return entering, carry, within.join(results)

    def run_head(carry):
        return run_part(carry, order.part(steps, 0, head), 0, entered)

    entering, end, results = jax.checkpoint(run_head)(carry)
    parts = [results]
    if count:
        starts = order.starts(entered + size * np.arange(count), size + lead)
        entries, part = steps.parts(starts, size + lead)

        def segment(carry, entry):
            entering, end, results = run_part(cut(carry[0]), part(entry), lead, size)
            return (entering, end), results

        body = jax.checkpoint(segment, prevent_cse=False)
        (entering, end), several = jax.lax.scan(body, (entering, end), entries, reverse=reverse)
        parts.append(_flat(several, count * size))
    if rest:
        last = order.part(steps, num_steps - rest - lead, num_steps)
        _, end, results = run_part(cut(entering), last, lead, last.length)
        parts.append(results)
    return end, order.join(parts)


class Order(NamedTuple):
    """Finds steps that are counted in the order of execution in arrays [T, ...].

    Args:
        reverse: whether the last entry is executed first.
        num_steps: T.
    """

    reverse: bool
    num_steps: int

    def part(self, steps: Steps, first: int, last: int) -> Steps:
        """The steps from `first` to `last`, without `last`."""
        return steps.part(*((self.num_steps - last, self.num_steps - first) if self.reverse else (first, last)))

    def starts(self, firsts: np.ndarray, size: int) -> np.ndarray:
        """The first entries, in ascending order, of the parts of `size` steps that start at these steps."""
        return (self.num_steps - firsts - size)[::-1] if self.reverse else firsts

    def join(self, parts: Sequence[PyTree]) -> PyTree:
        """The results of consecutive parts, one after the other."""
        parts = parts[::-1] if self.reverse else parts
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _flat(results, num_steps):
    return jax.tree.map(lambda a: a.reshape(num_steps, *a.shape[2:]), results)

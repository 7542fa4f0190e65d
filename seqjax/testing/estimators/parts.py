"""`Parts`: the gradients of an estimator on parts of a path, beside the right ones."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from seqjax.testing.estimators.chain import EXACT, Leaf, Path, Slice

Call = Callable[[Slice, Sequence[int]], np.ndarray]
"""(steps, rows) -> the gradient, a vector."""


class Parts:
    """The gradients of an estimator on parts of a path, beside the right ones.

    Args:
        path: the path.
        leaves: the leaves of the gradient.
        got: the gradient of the estimator.
        wanted: the right gradient.
    """

    def __init__(self, path: Path, leaves: Sequence[Leaf], got: Call, wanted: Call):
        self.path, self.leaves, self._got, self._wanted = path, leaves, got, wanted
        self.rows = tuple(range(path.scan.num_rows))
        self._seen: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, part: Slice, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The gradient of the estimator and the right one."""
        where = part, tuple(rows)
        if where not in self._seen:
            nothing = np.zeros(sum(leaf.at.stop - leaf.at.start for leaf in self.leaves))
            empty = part.first >= part.last
            self._seen[where] = (nothing, nothing) if empty else (self._got(*where), self._wanted(*where))
        return self._seen[where]

    def right(self, part: Slice, rows: Sequence[int]) -> np.ndarray:
        """The right gradient alone."""
        return self._wanted(part, tuple(rows))

    def all(self) -> list[tuple[Slice, tuple[int, ...]]]:
        """All parts with all rows, and where there are several rows the parts from the first step of each alone."""
        num_steps = self.path.num_steps
        parts = [(Slice(m, n), self.rows) for m in range(num_steps) for n in range(m + 1, num_steps + 1)]
        if len(self.rows) > 1:
            parts += [(Slice(0, n), (b,)) for b in self.rows for n in range(1, num_steps + 1)]
        return parts

    @functools.cached_property
    def scale(self) -> np.ndarray:
        """For each number of the gradient the largest right one of its leaf, on all parts."""
        largest = np.max([np.abs(self.at(*where)[1]) for where in self.all()], 0)
        scale = np.zeros_like(largest)
        for leaf in self.leaves:
            scale[leaf.at] = largest[leaf.at].max(initial=0)
        return np.maximum(scale, max(1e-6 * largest.max(initial=0), 1e-300))

    def differs(self, part: Slice, rows: Sequence[int], bound: float = EXACT) -> bool:
        """Whether a gradient differs from the right one by more than a bound, relative to the leaf's largest number."""
        got, wanted = self.at(part, rows)
        for leaf in self.leaves:
            scale = max(np.abs(wanted[leaf.at]).max(initial=0), 1e-6 * np.abs(wanted).max(initial=0), 1e-300)
            if not (np.abs(got - wanted)[leaf.at] <= bound * scale).all():
                return True
        return False

    def is_wrong(self, got: np.ndarray, wanted: np.ndarray, bound: float = EXACT) -> np.ndarray:
        """Which numbers differ by more than the bound, relative to `scale`."""
        return ~(np.abs(got - wanted) <= bound * self.scale)

    def lag(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """The part of the gradient that travels back `lag` steps from a loss: the estimator's and the right one.

        It follows from windows that end in the step of a loss and begin `lag` and `lag` - 1 steps before it.
        """

        def of_loss(t, back):
            ends = [self.at(Slice(t - back, last), self.rows) for last in (t + 1, t)]
            return [a - b for a, b in zip(*ends, strict=True)]

        total = [np.zeros_like(a) for a in self.at(Slice(0, 1), self.rows)]
        for t in range(lag, self.path.num_steps):
            near = of_loss(t, lag - 1) if lag else [0, 0]
            total = [c + a - b for a, b, c in zip(of_loss(t, lag), near, total, strict=True)]
        return total[0], total[1]

"""Calls of an estimator on parts of a path, beside what they must return."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.contract.gradient import Gradient
from seqjax.testing.estimators.calling import Estimator, like_gradient
from seqjax.testing.estimators.chain import Leaf, Path, Slice, derivatives, leaves_of, vector
from seqjax.testing.estimators.known import Known
from seqjax.testing.estimators.parts import Call, Parts
from seqjax.testing.estimators.scans import Scan
from seqjax.testing.quick_jit import quick_jit


class CallFailed(Exception):  # noqa: N818
    """The estimator has raised `fault`. It may not be made for windows of this length."""

    def __init__(self, fault: Exception):
        self.fault = fault
        super().__init__(str(fault))


class Asked:
    """An estimator, and what its gradient is compared with.

    Args:
        estimator: the estimator.
        scan: the scan.
        like: a strategy; None: the exact gradient.
        wanted: a tree like the gradient: the parameters, or a part of them.
    """

    def __init__(self, estimator: Estimator, scan: Scan, like: Gradient | None, wanted: Any):
        self.estimator, self.scan, self.like, self.wanted = estimator, scan, like, wanted

    def parts(self, path: Path, by_one: bool = False) -> Parts:
        """The gradients on parts of a path, beside the right ones.

        Args:
            path: the path.
            by_one: whether each step is a window, with a memory that is carried from one to the next.
        """
        right = self._exact(path) if self.like is None else functools.partial(self._of_strategy, path)
        return Parts(path, leaves_of(self.wanted), functools.partial(self._of_estimator, path, by_one), right)

    def known(self, path: Path, wrong: Sequence[Leaf]) -> Known:
        """What readings need."""
        at = derivatives(path, _columns(path.scan.params, self.wanted))
        state = leaves_of(jax.tree.map(lambda a: a[0, 0], path.states))
        params, weights = leaves_of(self.wanted), vector(self.wanted)
        return Known(path, at(path.before, path.xs), at, state, params, weights, wrong, self.like is None)

    # Compiled once for each number of steps, whatever the path.
    @functools.cached_property
    def _compiled(self) -> Callable:
        key, scan = jax.random.key(0), self.scan

        def one(state, xs, memory):
            return self.estimator(scan.step, scan.params, state, xs, key, memory, self.wanted)[1:]

        return quick_jit(one) if self.estimator.traceable else one

    @functools.cached_property
    def _strategy(self) -> Callable:
        assert self.like is not None
        return quick_jit(estimate(self.scan.problem, self.like, batched=self.scan.batched))

    def _of_estimator(self, path: Path, by_one: bool, part: Slice, rows: Sequence[int]) -> np.ndarray:
        pieces = [Slice(t, t + 1) for t in range(*part)] if by_one else [part]
        memory, total = None, np.zeros(0)
        for piece in pieces:
            given = path.given(piece, rows)
            try:
                grads, memory = self._compiled(*given, memory)
            except Exception as fault:
                raise CallFailed(fault) from fault
            total = vector(grads) + (total if total.size else 0)
        return total

    def _of_strategy(self, path: Path, part: Slice, rows: Sequence[int]) -> np.ndarray:
        state, xs = path.given(part, rows)
        shape = (part.last - part.first, *((len(rows),) if path.scan.batched else ()))
        grads = self._strategy(path.scan.params, state, xs, weights=jnp.ones(shape)).grads
        return vector(like_gradient(grads, self.wanted))

    def _exact(self, path: Path) -> Call:
        chain = derivatives(path, _columns(path.scan.params, self.wanted))(path.before, path.xs)
        return lambda part, rows: chain.of_rows(rows).gradient(part)


def _columns(params: Any, wanted: Any) -> np.ndarray:
    """The numbers of the parameters' vector that the gradient has."""
    names = {leaf.name for leaf in leaves_of(wanted)}
    at = [np.arange(leaf.at.start, leaf.at.stop) for leaf in leaves_of(params) if leaf.name in names]
    return np.concatenate([np.zeros(0, int), *at])

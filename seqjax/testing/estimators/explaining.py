"""Explains why the gradient of an estimator is wrong: calls it on parts of the window that fails."""

import functools
import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.contract.gradient import Gradient
from seqjax.testing.estimators.calling import Estimator, Slice, like_gradient
from seqjax.testing.estimators.chain import Leaf, Path, derivatives, leaves_of, path_of
from seqjax.testing.estimators.diagnosis import Call, Parts, diagnose
from seqjax.testing.estimators.example import example
from seqjax.testing.estimators.readings import Known
from seqjax.testing.estimators.scans import Scan
from seqjax.testing.quick_jit import quick_jit

MOST_STEPS = 8
"""The most steps of which all parts are looked at."""
MOST_NUMBERS = 20_000_000
"""The most numbers of the influence of these steps, S times P times rows."""


def explain(
    estimator: Estimator, scan: Scan, states: Sequence[Any], w: int, like: Gradient | None, gradient: Any, step: str
) -> str:
    """What is wrong with a gradient, and the smallest case that fails.

    Args:
        estimator: the estimator.
        scan: the scan.
        states: the states that enter the windows.
        w: the first window whose gradient is wrong.
        like: the strategy with which it is compared; None: with the exact gradient.
        gradient: a gradient of the estimator.
        step: code for the step, for the case; "": the user's own.

    Returns:
        Several lines.
    """
    size = sum(np.size(a) for a in jax.tree.leaves(scan.state)) * sum(np.size(a) for a in jax.tree.leaves(scan.params))
    if size * min(scan.num_steps, MOST_STEPS) > MOST_NUMBERS:
        return "What is wrong was not looked for: give a scan with fewer units or parameters."
    asked = Asked(estimator, like, like_gradient(scan.params, gradient))
    whole = path_of(scan, [scan.windows[w]], states[w])
    try:
        if twice := _of_two_calls(asked, whole):
            return twice
        path = _failing(asked, whole)
        if path is not None:
            return _of_path(asked, path, step)
        if estimator.of == "history":
            return _of_windows(asked, scan, states, w, step)
    except Exception as fault:
        # The user's function is called on windows of other lengths here, for which it may not be made.
        said = (str(fault).splitlines() or [""])[0]
        return f"What is wrong was not looked for: on a part of a window it raises {type(fault).__name__}: {said:.200}"
    return (
        "What is wrong: every part of the window is right in a call of its own, so that it depends on the calls before."
    )


class Asked:
    """An estimator, and what its gradient is compared with.

    Args:
        estimator: the estimator.
        like: a strategy; None: the exact gradient.
        wanted: a tree like the gradient: the parameters, or a part of them.
    """

    def __init__(self, estimator: Estimator, like: Gradient | None, wanted: Any):
        self.estimator, self.like, self.wanted = estimator, like, wanted

    def parts(self, path: Path, by_one: bool = False) -> Parts:
        """The gradients on parts of a path, beside the right ones.

        Args:
            path: the path.
            by_one: whether each step is a window, with a memory that is carried from one to the next.
        """
        right = _exact(path, self.wanted) if self.like is None else _of_strategy(self.like, path, self.wanted)
        got = _of_estimator(self.estimator, path, self.wanted, by_one)
        return Parts(path, leaves_of(self.wanted), got, right)

    def known(self, path: Path, wrong: Sequence[Leaf]) -> Known:
        """What readings need."""
        at = derivatives(path, _columns(path.scan.params, self.wanted))
        state = leaves_of(jax.tree.map(lambda a: a[0, 0], path.states))
        params, weights = leaves_of(self.wanted), _vector(self.wanted)
        return Known(path, at(path.before, path.xs), at, state, params, weights, wrong, self.like is None)


def _of_two_calls(asked: Asked, path: Path) -> str:
    """What two equal calls show of a function that is not traced: whether it keeps something between them."""
    if asked.estimator.traceable:
        return ""
    where = Slice(0, path.num_steps), range(path.scan.num_rows)
    first, second = (asked.parts(path).at(*where)[0] for _ in range(2))
    if np.allclose(first, second, 1e-9, 1e-12 * np.abs(first).max(initial=0)):
        return ""
    text = "What is wrong: two equal calls return different gradients"
    wanted = asked.parts(path).at(*where)[1]
    if np.allclose(second - first, wanted, 1e-9):
        return f"{text}.\nThe cause: gradients are added to those of the calls before."
    return f"{text}: the function draws at random without its key, or keeps something between calls."


def _failing(asked: Asked, path: Path) -> Path | None:
    """A stretch of at most `MOST_STEPS` steps on which the estimator fails."""
    last = MOST_STEPS
    while True:
        end = min(last, path.num_steps)
        some = path.part(Slice(max(0, end - MOST_STEPS), end))
        if asked.parts(some).differs(Slice(0, some.num_steps), range(path.scan.num_rows)):
            return some
        if last >= path.num_steps:
            return None
        last *= 2


def _of_path(asked: Asked, path: Path, step: str, by_one: bool = False) -> str:
    """What is wrong on a path, and the smallest case."""
    parts = asked.parts(path, by_one)
    found = diagnose(parts, lambda wrong: asked.known(path, wrong))
    if found is None:
        return ""
    if by_one:
        return str(found)
    code = example(asked.estimator, path, (found.part, found.rows), parts.leaves, parts.at(found.part, found.rows), step)
    if not code:
        return f"{found}\nThe smallest part that fails has {found.part.last - found.part.first} steps."
    return f"{found}\nThe smallest case that fails:\n{textwrap.indent(code, '    ')}"


def _of_windows(asked: Asked, scan: Scan, states: Sequence[Any], w: int, step: str) -> str:
    """What is wrong if every window is right with a new memory: with windows of one step, and with those of the scan."""
    path = path_of(scan, scan.windows[: w + 1], states[0])
    path = path.part(Slice(0, min(MOST_STEPS, path.num_steps)))
    head = "Every window alone is right, with a new memory, and wrong where the memory is carried."
    if by_one := _of_path(asked, path, step, by_one=True):
        return f"{head} In windows of one step:\n{by_one}"
    return f"What is wrong: {head[0].lower()}{head[1:]}"


def _of_estimator(estimator: Estimator, path: Path, wanted: Any, by_one: bool) -> Call:
    key, scan = jax.random.key(0), path.scan

    def one(state, xs, memory):
        return estimator(scan.step, scan.params, state, xs, key, memory, wanted)[1:]

    compiled = quick_jit(one) if estimator.traceable else one

    def call(part, rows):
        pieces = [Slice(t, t + 1) for t in range(*part)] if by_one else [part]
        memory, total = None, 0.0
        for piece in pieces:
            grads, memory = compiled(*path.given(piece, rows), memory)
            total = total + _vector(grads)
        return total

    return call


def _exact(path: Path, wanted: Any) -> Call:
    chain = derivatives(path, _columns(path.scan.params, wanted))(path.before, path.xs)
    return lambda part, rows: chain.of_rows(rows).gradient(part)


def _of_strategy(strategy: Gradient, path: Path, wanted: Any) -> Call:
    run = quick_jit(estimate(path.scan.problem, strategy, batched=path.scan.batched))

    def call(part, rows):
        state, xs = path.given(part, rows)
        shape = (part.last - part.first, *((len(rows),) if path.scan.batched else ()))
        grads = run(path.scan.params, state, xs, weights=jnp.ones(shape)).grads
        return _vector(like_gradient(grads, wanted))

    return call


def _columns(params: Any, wanted: Any) -> np.ndarray:
    """The numbers of the parameters' vector that the gradient has."""
    names = {leaf.name for leaf in leaves_of(wanted)}
    at = [np.arange(leaf.at.start, leaf.at.stop) for leaf in leaves_of(params) if leaf.name in names]
    return np.concatenate([np.zeros(0, int), *at])


def _vector(tree: Any) -> np.ndarray:
    """The float leaves of a tree as a vector."""
    leaves = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(jnp.asarray(a).dtype, jnp.inexact)]
    return np.concatenate([np.zeros(0), *(np.ravel(np.asarray(a, np.float64)) for a in leaves)])

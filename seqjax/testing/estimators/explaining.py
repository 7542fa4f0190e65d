"""Explains why the gradient of an estimator is wrong: calls it on parts of the window that fails."""

import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from seqjax.gradients.contract.gradient import Gradient
from seqjax.testing.compare import BOUND
from seqjax.testing.estimators.asking import Asked, CallFailed
from seqjax.testing.estimators.calling import Estimator, like_gradient
from seqjax.testing.estimators.chain import Path, Slice, path_of
from seqjax.testing.estimators.diagnosis import diagnose
from seqjax.testing.estimators.example import example
from seqjax.testing.estimators.readings import NOT_BACK
from seqjax.testing.estimators.scans import Scan

MOST_STEPS = 8
"""The most steps of which all parts are looked at."""
MOST_NUMBERS = 20_000_000
"""The most numbers of the influence of these steps, S times P times rows."""


def explain(
    estimator: Estimator,
    scan: Scan,
    states: Sequence[Any],
    w: int,
    like: Gradient | None,
    gradient: Any,
    step: str | None,
) -> str:
    """What is wrong with a gradient, and the smallest case that fails.

    Args:
        estimator: the estimator.
        scan: the scan.
        states: the states that enter the windows.
        w: the first window whose gradient is wrong.
        like: the strategy with which it is compared; None: with the exact gradient.
        gradient: a gradient of the estimator.
        step: code for the step, for the case; "": it is the user's own; None: no code is shown.

    Returns:
        Several lines.
    """
    size = sum(np.size(a) for a in jax.tree.leaves(scan.state)) * sum(np.size(a) for a in jax.tree.leaves(scan.params))
    if size * min(scan.num_steps, MOST_STEPS) > MOST_NUMBERS:
        return "What is wrong was not looked for: give a scan with fewer units or parameters."
    asked = Asked(estimator, scan, like, like_gradient(scan.params, gradient))
    whole = path_of(scan, [scan.windows[w]], states[w])
    try:
        if twice := _of_two_calls(asked, whole):
            return twice
        if found := explain_window(asked, whole, step):
            return found
        if estimator.of == "history":
            return _of_windows(asked, scan, states, w, step)
        return _of_length(asked, whole)
    except CallFailed as error:
        said = f"{type(error.fault).__name__}: {(str(error).splitlines() or [''])[0]:.200}"
        return f"What is wrong was not looked for: on a part of a window it raises {said}"


def explain_window(asked: Asked, window: Path, step: str | None) -> str:
    """What is wrong on a short stretch of a window, and the smallest case; "" if the gradient is right on all of them.

    Raises:
        CallFailed: the estimator raises an exception.
    """
    path = _failing(asked, window)
    return "" if path is None else _of_path(asked, path, step)


def _of_two_calls(asked: Asked, path: Path) -> str:
    """What two equal calls show of a function that is not traced: whether it keeps something between them."""
    if asked.estimator.traceable:
        return ""
    where = Slice(0, path.num_steps), range(path.scan.num_rows)
    parts = asked.parts(path)
    first, second = parts.at(*where)[0], asked.parts(path).at(*where)[0]
    finite = np.isfinite(first) & np.isfinite(second)
    if np.allclose(first[finite], second[finite], 1e-9, 1e-12 * np.abs(first[finite]).max(initial=0)):
        return ""
    text = "What is wrong: two equal calls return different gradients"
    if np.allclose(second - first, parts.right(*where), 1e-9):
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


def _of_length(asked: Asked, path: Path) -> str:
    """What is wrong with a window, short stretches of which are right: the first wrong step of a long one."""
    parts, rows = asked.parts(path), range(path.scan.num_rows)
    right, wrong = MOST_STEPS, path.num_steps
    if not parts.differs(Slice(0, wrong), rows, BOUND):
        return "What is wrong: the window is right in a call of its own, so that it depends on the calls before."
    if not parts.differs(Slice(0, wrong), rows):
        return "What is wrong: right to about 9 digits. Rounding, finite differences or a small added term do this."
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if parts.differs(Slice(0, middle), rows):
            wrong = middle
        else:
            right = middle
    return (
        f"What is wrong: right for {right} steps, wrong from step {wrong}. Stretches of {MOST_STEPS} steps are right, "
        "so it depends on what is further away."
    )


def _of_path(asked: Asked, path: Path, step: str | None, by_one: bool = False) -> str:
    """What is wrong on a path, and the smallest case."""
    parts = asked.parts(path, by_one)
    found = diagnose(parts, lambda wrong: asked.known(path, wrong))
    if found is None:
        return ""
    if by_one:
        # Where each step is a window, the state that enters a step is the one that enters a window.
        return str(found).replace(NOT_BACK, "the memory of the window before is not used")
    if step is None:
        return str(found)
    where = found.part, found.rows
    code = example(asked.estimator, path, where, parts.leaves, parts.at(*where), step)
    if not code:
        return f"{found}\nThe smallest part that fails has {found.part.last - found.part.first} steps."
    return f"{found}\nThe smallest case that fails:\n{textwrap.indent(code, '    ')}"


def _of_windows(asked: Asked, scan: Scan, states: Sequence[Any], w: int, step: str | None) -> str:
    """What is wrong if every window is right with a new memory: it is called in windows of one step."""
    path = path_of(scan, scan.windows[: w + 1], states[0])
    path = path.part(Slice(0, min(MOST_STEPS, path.num_steps)))
    head = "Every window alone is right, with a new memory, and wrong where the memory is carried."
    if by_one := _of_path(asked, path, step, by_one=True):
        return f"{head} In windows of one step:\n{by_one}"
    return f"What is wrong: {head[0].lower()}{head[1:]}"

"""How many levels of checkpoints a window needs, so that its reverse pass fits into a number of bytes."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal
from jaxtyping import PyTree

from seqjax.errors import Error
from seqjax.gradients.steps.floats import combine, partition_float
from seqjax.gradients.steps.segmented import segment_size

MOST_LEVELS = 12
"""The largest number of levels that `levels_within` considers."""
KEPT = (1.03, 1.2, 1.2)
"""A compiled reverse pass takes at most so many times the bytes of what it keeps: without levels, with one level, and
with several. These are the largest factors that were measured on a CPU; see tests/gradients/reverse/test_budget.py."""
SUMS = (1.0, 2.2, 3.7)
"""How many copies of the gradient exist at the same time: without levels, with one level, and for each of several."""
LOSSES = (1, 2, 4)
"""How many copies of the losses of all steps exist at the same time."""


class Window(NamedTuple):
    """A window whose reverse pass is to fit into a number of bytes.

    Args:
        run: (floats, state, steps, n) -> the losses or outputs of n steps, differentiated by floats and state.
        floats: all that is differentiated except the state and the steps, such as the parameters.
        state: the state in which the window starts.
        steps: what the steps read, leaves [T, ...].
        num_steps: T.
        sum_bytes: the bytes of the gradient of `floats` that is summed over the steps.
        loss_bytes: the bytes of the losses of all steps.
        input_bytes: the bytes of the gradient of what the steps read, which is a result; 0 if it is not differentiated.
    """

    run: Callable[[Any, Any, PyTree, int], Any]
    floats: Any
    state: Any
    steps: Any
    num_steps: int
    sum_bytes: int
    loss_bytes: int
    input_bytes: int = 0


def levels_within(budget: int, window: Window) -> int:
    """The fewest levels with which the reverse pass of a window needs at most `budget` bytes besides its arguments.

    A step needs the bytes of the residuals that JAX would keep, found by tracing windows of one and two steps. Nothing
    is compiled. Outputs of the steps are not counted.

    Raises:
        Error: no number of levels fits into the budget; the message says how many bytes are needed.
    """
    num_steps = window.num_steps
    one = _residual_bytes(window, 1)
    two = _residual_bytes(window, 2) if num_steps > 1 else 2 * one
    of_step, of_input = max(two - one, 1), num_bytes(window.steps) // num_steps
    constant = max(one - of_step, 0)

    def bytes_with(levels):
        # What the steps read is an argument; with levels it is copied for one innermost segment.
        kept = _kept(num_steps, levels, of_step + (of_input if levels else 0), num_bytes(window.state))
        kind = min(levels, 2)
        sums = SUMS[kind] * max(levels, 1) * window.sum_bytes
        # Segments and a shorter rest are joined in a copy.
        joined = window.input_bytes if levels and num_steps % segment_size(num_steps, levels) else 0
        return KEPT[kind] * kept + sums + joined + LOSSES[kind] * window.loss_bytes + constant

    needed = [bytes_with(levels) for levels in range(MOST_LEVELS + 1)]
    enough = [levels for levels, size in enumerate(needed) if size <= budget]
    if not enough:
        raise Error(
            f"a budget of {budget / 1e6:.3g} MB is too small for {num_steps} steps: with "
            f"{needed.index(min(needed))} levels, about {min(needed) / 1e6:.3g} MB are needed; allow more, or take "
            "fewer steps or rows at a time"
        )
    return enough[0]


def _kept(num_steps, levels, of_step, of_state):
    """The bytes that are kept at a time: the states of each level, and the residuals of one innermost segment."""
    size = segment_size(num_steps, levels)
    if levels == 0 or size == num_steps:
        return num_steps * of_step
    segments, rest = divmod(num_steps, size)
    # The steps after the last whole segment are differentiated first.
    inner = max(_kept(n, levels - 1, of_step, of_state) for n in (size, rest) if n)
    return segments * of_state + inner


def _residual_bytes(window: Window, num_steps: int) -> int:
    """The bytes of what the reverse pass of `num_steps` steps reads, besides its arguments."""
    steps = jax.tree.map(lambda a: a[:num_steps], window.steps)
    floats, others = partition_float(window.state)

    def residuals(params, floats, others, steps):
        return jax.vjp(lambda *args: window.run(args[0], combine(args[1], others), steps, num_steps), params, floats)[1]

    jaxpr = jax.make_jaxpr(residuals)(window.floats, floats, others, steps).jaxpr
    # A residual that is an argument takes no further bytes.
    return sum(num_bytes(v.aval) for v in jaxpr.outvars if v not in jaxpr.invars and not isinstance(v, Literal))


def num_bytes(tree: Any) -> int:
    """The bytes of all arrays of a tree, or of their shapes and dtypes."""
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))

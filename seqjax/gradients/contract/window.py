"""What a gradient strategy is given for one window, what it carries, and what it returns."""

from collections.abc import Callable
from typing import Any, NamedTuple

from seqjax.gradients.contract.problem import Params, State

Start = Callable[[Params], State]
"""The state in which a window starts, as a function of the parameters."""
Noise = Any
"""The random numbers that a strategy draws: any pytree of arrays."""


class Batch(NamedTuple):
    """One window of every row.

    Args:
        xs: what the steps read, leaves [T, B, ...].
        weights: float[T, B], the weight of each step's loss; a step whose weight is zero is not scored. The weights are
            divided by the global count, so that they sum to 1 over the batch of all devices. A strategy sums; it never
            normalises.
        reset: bool[B], True where a sequence starts. The state of such a row is the initial state, computed inside the
            differentiated function.
        rows: int32[B], global row numbers, so that randomness does not depend on how rows are spread over devices.
    """

    xs: Any
    weights: Any
    reset: Any
    rows: Any


class Memory(NamedTuple):
    """What a strategy carries from window to window.

    Args:
        shared: survives resets. It is averaged over rows and devices, so it must hold means.
        rows: one entry per row, initialised again where the row is reset.
    """

    shared: Any = ()
    rows: Any = ()


class Estimate(NamedTuple):
    """What a strategy returns.

    Args:
        loss: float[], the weighted sum of the steps' losses.
        grads: the estimated gradient, like the parameters.
        state: the state after the last step, leaves [B, ...].
        memory: the memory for the next window.
        outputs: what the steps returned beside their losses, leaves [T, B, ...]; None: there are none, or the strategy
            does not return them.
    """

    loss: Any
    grads: Any
    state: Any
    memory: Any
    outputs: Any = None

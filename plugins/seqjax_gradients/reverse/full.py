"""Backpropagation through time in full."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Error, Problem, WeightedEdges, register
from seqjax.gradients import Batch, Memory, Params, State, partition_float, scored_steps
from seqjax.gradients.contract.checkpointed import checkpointed
from seqjax.gradients.reverse.budget import Window, levels_within, num_bytes

MOST_LEVELS = 30
"""The largest number of levels: each one halves a segment at least, and a window has fewer than 2^31 steps."""
UNITS = {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@register("gradient", "full")
@dataclass(frozen=True)
class Full(WeightedEdges):
    """Full backpropagation through the window: every edge weight is 1.

    With h_t = f(x_t, h_{t-1}, w), the derivative of the state follows the recurrence

        dh_t/dw = ∂f/∂w + ∂f/∂h dh_{t-1}/dw

    (Werbos 1990, "Backpropagation through time: what it does and how to do it"). It keeps what the backward pass needs
    for all T steps. With n levels of checkpoints it keeps this for about (n + 1) T^(1 / (n + 1)) steps, and takes n
    more forward passes. Choose at most one of `checkpoint`, `levels` and `budget`.
    """

    cites = ("werbos1990backpropagation",)
    also_called = ("bptt", "full-bptt", "backprop")

    checkpoint: bool = False
    """Keep every √T-th state only, and compute the steps between them again in the backward pass: `levels` = 1."""
    levels: Annotated[int, Interval(ge=1, le=MOST_LEVELS)] | None = None
    """The number of levels of checkpoints."""
    budget: str | None = None
    """The bytes that the backward pass may take, such as "200MB": the fewest levels are chosen that are estimated to
    need no more. Arguments, results and the outputs of the steps are not counted. Under `jax.vmap` this is the budget
    of one entry."""

    claim = "exact"

    def __post_init__(self):
        super().__post_init__()
        if self.checkpoint + (self.levels is not None) + (self.budget is not None) > 1:
            raise Error("Full cannot be made: choose one of checkpoint, levels and budget")
        if self.budget is not None:
            _bytes(self.budget)

    def edge_weights(self, noise, memory, num_steps):
        """No edge is weighted."""
        return None, memory

    def estimate(self, problem, params, start, memory, batch, noise):
        levels = self._levels_of(lambda: _window(problem, params, start(params), batch))
        return super().estimate(checkpointed(problem, levels), params, start, memory, batch, noise)

    def scan(self, call, noise, memory):
        """One scan, or with levels of checkpoints."""
        return call.checkpointed(self._levels_of(call.window))

    def loop(self, call):
        """A scan of the largest number of steps, which does nothing after the stop."""
        return call.masked(lambda scan: self.scan(scan, (), Memory()))

    def _levels_of(self, window: Callable[[], Window]) -> int:
        """The number of levels; `window` gives the window whose reverse pass is to fit into a budget."""
        if self.budget is not None:
            return levels_within(_bytes(self.budget), window())
        return self.levels or int(self.checkpoint)


def _window(problem: Problem, params: Params, state: State, batch: Batch) -> Window:
    """The window of a batch."""
    xs, scored = problem.read(params, batch.xs), scored_steps(batch.weights)

    def run(params, state, steps, _):
        xs, scored = steps
        return problem.unroll(params, state, xs, None, scored)[1]

    inputs = num_bytes(partition_float(xs)[0]) if problem.inputs is not None else 0
    sums, losses = num_bytes(params) - inputs, num_bytes(batch.weights)
    return Window(run, params, state, (xs, scored), len(batch.weights), sums, losses, inputs)


def _bytes(budget: str) -> int:
    """The number of bytes of a text such as "200MB"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([kKMGT]?i?B)", budget.strip())
    if match is None or match[2] not in UNITS:
        raise Error(f"Full cannot be made: budget = {budget!r} must be a size such as 200MB; units: {', '.join(UNITS)}")
    return int(float(match[1]) * UNITS[match[2]])

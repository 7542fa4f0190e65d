"""The sampler in-order: a single row that reads the whole stream in order."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Sampler, register
from seqjax.data import NUM_STEPS, in_order


@register("sampler", "in-order")
@dataclass(frozen=True)
class InOrder(Sampler):
    """Reads every target once, in order, in a single row, as online learning does.

    The last window of a document may be shorter. The next window is reset.
    """

    batch_size: Annotated[int, Interval(ge=1, le=1)] = 1
    """Always one row."""
    num_steps: Annotated[int, Interval(ge=1)] = NUM_STEPS
    """Time steps of a window. With 1 there is an update after every step."""

    most_visits = 1

    def plan(self, bounds, rng):
        """⌈n / num_steps⌉ windows for each document of n targets. Nothing is random."""
        return in_order(bounds, self.num_steps)

"""One row that reads everything in order."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Sampler, register
from seqjax.data import in_order


@register("sampler", "in-order")
@dataclass(frozen=True)
class InOrder(Sampler):
    """Every target once, window after window from the first on, in one row: what online learning reads.

    A document's last window may be shorter; the next one starts afresh.
    """

    batch_size: Annotated[int, Interval(ge=1, le=1)] = 1
    """One row."""
    num_steps: Annotated[int, Interval(ge=1)] = 35
    """Time steps of a window: 1 updates after every step."""

    def plan(self, bounds, rng):
        """⌈n / num_steps⌉ windows a document of n targets; nothing is random."""
        return in_order(bounds, self.num_steps)

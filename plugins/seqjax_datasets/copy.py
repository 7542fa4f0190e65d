"""The copy task: repeat the input some steps later."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Error, Pairs, Spec, Tokens, register

from ._levels import entropy

BLANK, START, FIRST, SIZE = 0, 1, 2, 6
"""The tokens: 0 blank, 1 start, 2 to 5 data."""


@register("dataset", "copy")
@dataclass(frozen=True)
class Copy(Dataset):
    """Repeats each segment of the input m steps later (Aicher, Foti & Fox 2019, arXiv:1905.07473).

    A segment is a start token and m - 1 random data tokens. The input is a segment and then m blanks, and the target
    is m blanks and then the segment, so that a target that is not blank is the input exactly m steps before. This is
    repeated up to the end of the stream. The tokens are 0 blank, 1 start, 2 to 5 data. A model that has only learned
    the layout has the perplexity 4^((m - 1) / 2m), which is 1.866 for m = 10. The floor of the loss is 0.
    """

    cites = ("aicher2019adaptively",)
    floor: ClassVar = 0.0

    num_steps: Annotated[int, Interval(ge=1)] = 10_000
    """Length of the stream. The last segment may be incomplete."""
    min_length: Annotated[int, Interval(ge=1)] = 10
    """Shortest segment, with its start token. m is uniform between this and `max_length`."""
    max_length: Annotated[int, Interval(ge=1)] = 10
    """Longest segment, with its start token."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the lengths and tokens."""

    def __post_init__(self):
        super().__post_init__()
        if self.min_length > self.max_length:
            raise Error(f"Copy cannot be made: min_length = {self.min_length} is above max_length = {self.max_length}")

    def load(self):
        """Pairs of ids below 6."""
        rng = np.random.default_rng(self.seed)
        most = self.num_steps // (2 * self.min_length) + 1
        lengths = rng.integers(self.min_length, self.max_length, most, endpoint=True)
        segments = [np.array([START, *rng.integers(FIRST, SIZE, m - 1)]) for m in lengths]
        inputs = np.concatenate([half for segment in segments for half in (segment, BLANK * segment)])
        targets = np.concatenate([half for segment in segments for half in (BLANK * segment, segment)])
        return Pairs(inputs[: self.num_steps], targets[: self.num_steps], spec=Spec(Tokens(SIZE)), source="copy")

    @property
    def chance(self):
        """The entropy of the frequencies of the targets: half are blanks, and one in 2 m is a start token."""
        start = 1 / (self.min_length + self.max_length)
        data = (0.5 - start) / (SIZE - FIRST)
        return entropy(0.5, start, *[data] * (SIZE - FIRST))

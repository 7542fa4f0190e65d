"""The delayed match task: compare two tokens with a delay between them."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Tokens, register

BLANK, FIRST = 0, 1
"""The inputs: 0 blank, 1 and more data."""


@register("dataset", "delayed-match")
@dataclass(frozen=True)
class DelayedMatch(Dataset):
    """Two data tokens with a delay between them: after the second one, the target is whether they are the same.

    A sequence is a document: a data token, `delay` blanks, and a second data token, which is the first one with
    probability ½, and otherwise another one. Only the last step is scored. The floor is 0, and the chance level ln 2,
    since each token alone says nothing about the target. The inputs are 0 blank, 1 and more data.
    """

    floor: ClassVar = 0.0
    chance: ClassVar = math.log(2)

    num_sequences: Annotated[int, Interval(ge=1)] = 8_000
    """Number of sequences."""
    values: Annotated[int, Interval(ge=2)] = 4
    """Number of different data tokens."""
    delay: Annotated[int, Interval(ge=0)] = 10
    """Number of blanks between the two tokens."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the tokens."""

    def load(self):
        """Pairs of `num_sequences` documents of `delay` + 2 steps; the target is 1 if the tokens are the same."""
        rng = np.random.default_rng(self.seed)
        N = self.num_sequences
        first, same = rng.integers(self.values, size=N), rng.integers(0, 2, N)
        other = (first + rng.integers(1, self.values, N)) % self.values
        inputs = np.full((N, self.delay + 2), BLANK)
        inputs[:, 0], inputs[:, -1] = FIRST + first, FIRST + np.where(same, first, other)
        targets, mask = np.zeros_like(inputs), np.zeros(inputs.shape, bool)
        targets[:, -1], mask[:, -1] = same, True
        return Pairs(
            inputs.ravel(),
            targets.ravel(),
            mask.ravel(),
            spec=Spec(Tokens(FIRST + self.values), Tokens(2)),
            bounds=np.arange(N + 1) * inputs.shape[1],
            source="delayed-match",
        )

    @property
    def sampler_fields(self):  # type: ignore[override]
        """Windows as long as a sequence."""
        return {"num_steps": self.delay + 2}

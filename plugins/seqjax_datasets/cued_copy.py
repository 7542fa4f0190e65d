"""The cued copy task: repeat a few tokens after a delay."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Tokens, register

BLANK, CUE, FIRST = 0, 1, 2
"""The inputs: 0 blank, 1 cue, 2 and more data."""


@register("dataset", "cued-copy")
@dataclass(frozen=True)
class CuedCopy(Dataset):
    """Sequences of random data tokens, which are repeated in their order after a delay.

    A sequence is a document: `length` data tokens, `delay` blanks, and `length` cues. At each cue the target is the
    next data token; the other steps are not scored. The floor is 0, and the chance level ln `values`. The inputs are 0
    blank, 1 cue, 2 and more data; the targets are data tokens from 0.
    """

    floor: ClassVar = 0.0

    num_sequences: Annotated[int, Interval(ge=1)] = 8_000
    """Number of sequences."""
    length: Annotated[int, Interval(ge=1)] = 3
    """Number of data tokens of a sequence."""
    values: Annotated[int, Interval(ge=2)] = 8
    """Number of different data tokens."""
    delay: Annotated[int, Interval(ge=0)] = 10
    """Number of blanks between the data and the cues."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the data tokens."""

    def load(self):
        """Pairs of `num_sequences` documents of 2 `length` + `delay` steps."""
        N, L = self.num_sequences, self.length
        data = np.random.default_rng(self.seed).integers(self.values, size=(N, L))
        num_steps = 2 * L + self.delay
        inputs = np.full((N, num_steps), BLANK)
        inputs[:, :L], inputs[:, -L:] = FIRST + data, CUE
        targets, mask = np.zeros((N, num_steps), int), np.zeros((N, num_steps), bool)
        targets[:, -L:], mask[:, -L:] = data, True
        return Pairs(
            inputs.ravel(),
            targets.ravel(),
            mask.ravel(),
            spec=Spec(Tokens(FIRST + self.values), Tokens(self.values)),
            bounds=np.arange(N + 1) * num_steps,
            source="cued-copy",
        )

    @property
    def chance(self):
        """The entropy of a data token."""
        return math.log(self.values)

    @property
    def sampler_fields(self):  # type: ignore[override]
        """Windows as long as a sequence."""
        return {"num_steps": 2 * self.length + self.delay}

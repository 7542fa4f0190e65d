"""The adding problem: the sum of two marked numbers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Error, Pairs, register


@register("dataset", "adding")
@dataclass(frozen=True)
class Adding(Dataset):
    """Sequences of numbers, two of which are marked; the target is their sum (Hochreiter & Schmidhuber 1997).

    A sequence is a document of `length` steps. The input of a step is a number from U(0, 1), and a mark, which is 1 at
    two steps and 0 at the others. Only the last step is scored. The floor is 0. A model that always outputs 1, the mean
    of the sum, has the mean squared error 1/6, which is the chance level.
    """

    cites = ("hochreiter1997long",)
    of_values = True
    floor: ClassVar = 0.0
    chance: ClassVar = 1 / 6

    num_sequences: Annotated[int, Interval(ge=1)] = 4_000
    """Number of sequences."""
    length: Annotated[int, Interval(ge=2)] = 30
    """Steps of a sequence."""
    gap: Annotated[int, Interval(ge=0)] = 0
    """The number of last steps that are never marked, so that a gradient truncated to `gap` steps reaches no mark."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the numbers and marks."""

    def __post_init__(self):
        super().__post_init__()
        if self.gap > self.length - 2:
            raise Error(
                f"Adding cannot be made: gap = {self.gap} leaves fewer than two of length = {self.length} steps"
            )

    def load(self):
        """Pairs of `num_sequences` documents; the inputs are (number, mark)."""
        rng = np.random.default_rng(self.seed)
        numbers = rng.random((self.num_sequences, self.length))
        marked = np.stack([rng.permutation(self.length - self.gap)[:2] for _ in range(self.num_sequences)])
        sequences = np.arange(self.num_sequences)[:, None]
        marks = np.zeros_like(numbers)
        marks[sequences, marked] = 1
        sums = numbers[sequences, marked].sum(1)
        return Pairs.from_sequences(list(np.stack([numbers, marks], -1)), sums.tolist(), source="adding")

    @property
    def sampler_fields(self):  # type: ignore[override]
        """Windows as long as a sequence."""
        return {"num_steps": self.length}

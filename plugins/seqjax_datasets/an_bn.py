"""The language aⁿbⁿ: as many b as a, so that a model has to count."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Tokens, register

from ._levels import entropy

END, A, B = 0, 1, 2
"""The tokens."""


@register("dataset", "an-bn")
@dataclass(frozen=True)
class AnBn(Dataset):
    """A stream of words aⁿbⁿ, each of which is followed by an end token (Gers & Schmidhuber 2001).

    n is uniform from 1 to N = `max_n`, and the target is the next token. Whether another a follows is random, and all
    other tokens can be predicted by counting. So the floor is the entropy of n for each word,

        ln N / (N + 2),

    since a word has N + 2 tokens in the mean. For N = 16 it is .1540 nats, the highest accuracy is .9479, and the
    chance level, from the frequencies of the three tokens, is .8692 nats. The tokens are 0 end, 1 a, 2 b.
    """

    cites = ("gers2001lstm",)

    num_steps: Annotated[int, Interval(ge=2)] = 100_000
    """Length of the stream. The last word may be incomplete."""
    max_n: Annotated[int, Interval(ge=1)] = 16
    """N, the largest n."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the words."""

    def load(self):
        """Pairs of ids below 3; the first input is an end token."""
        n = np.random.default_rng(self.seed).integers(1, self.max_n, self.num_steps // 3 + 1, endpoint=True)
        counts = np.stack([n, n, np.ones_like(n)], 1)
        ids = np.repeat(np.tile([A, B, END], len(n)), counts.ravel())
        ids = np.concatenate([[END], ids])[: self.num_steps + 1]
        return Pairs(ids[:-1], ids[1:], spec=Spec(Tokens(3)), source="an-bn")

    @property
    def floor(self):
        """The entropy of n for each token."""
        return np.log(self.max_n).item() / (self.max_n + 2)

    @property
    def chance(self):
        """The entropy of the frequencies of the tokens."""
        letter = (self.max_n + 1) / 2 / (self.max_n + 2)
        return entropy(letter, letter, 1 / (self.max_n + 2))

    @property
    def best_accuracy(self):
        """The highest accuracy: a model is wrong only about where the b begin, in 1 - 1/N of the words."""
        return 1 - (1 - 1 / self.max_n) / (self.max_n + 2)

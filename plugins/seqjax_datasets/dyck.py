"""Dyck languages: balanced brackets of several kinds, so that a model needs a stack."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, Spec, Tokens, register

from ._levels import log_loss


@register("dataset", "dyck")
@dataclass(frozen=True)
class Dyck(Dataset):
    """Balanced brackets of `kinds` kinds with at most `max_depth` open ones (Hewitt et al. 2020).

    At depth 0 a bracket opens, at `max_depth` one closes, and in between a bracket opens with probability `opening`.
    The kind of an opening bracket is random. A closing bracket is of the kind of the last open one, which a model has
    to remember. The target is the next token. Token k opens a bracket of kind k, and token `kinds` + k closes it.

    The depth is a Markov chain with the stationary distribution π. The floor is the entropy rate,

        Σ_d π_d (H(p_d) + p_d ln kinds),   p_d the probability that a bracket opens at depth d,

    and the chance level is ln (2 `kinds`), since all tokens are equally frequent.
    """

    cites = ("hewitt2020rnns",)

    num_steps: Annotated[int, Interval(ge=2)] = 100_000
    """Length of the stream, which starts at depth 0."""
    kinds: Annotated[int, Interval(ge=1)] = 2
    """Number of kinds of brackets."""
    max_depth: Annotated[int, Interval(ge=1)] = 4
    """The most open brackets."""
    opening: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """The probability that a bracket opens where one may open or close."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the brackets."""

    def load(self):
        """Pairs of ids below 2 `kinds`."""
        rng = np.random.default_rng(self.seed)
        u = rng.random(self.num_steps + 1).tolist()
        kinds = rng.integers(self.kinds, size=self.num_steps + 1).tolist()
        probabilities = self.opening_probabilities.tolist()
        ids: list[int] = []
        stack: list[int] = []
        for chance, kind in zip(u, kinds, strict=True):
            if chance < probabilities[len(stack)]:
                stack.append(kind)
                ids.append(kind)
            else:
                ids.append(self.kinds + stack.pop())
        return Pairs(ids[:-1], ids[1:], spec=Spec(Tokens(2 * self.kinds)), source="dyck")

    @property
    def opening_probabilities(self):
        """p_d, the probability that a bracket opens at depth d, float64[max_depth + 1]."""
        return np.array([1.0, *[self.opening] * (self.max_depth - 1), 0.0])

    @property
    def floor(self):
        """The entropy rate."""
        p = self.opening_probabilities
        # As often as the depth rises from d to d + 1, it falls back: π_d p_d = π_{d+1} (1 - p_{d+1}).
        weights = np.cumprod([1.0, *(p[:-1] / (1 - p[1:]))])
        entropies = [log_loss(each) + each * math.log(self.kinds) for each in p.tolist()]
        return float(weights @ entropies / weights.sum())

    @property
    def chance(self):
        """The entropy of tokens that are equally likely."""
        return math.log(2 * self.kinds)

"""A text from a Markov chain, for which the lowest perplexity is known."""

import bisect
import itertools
import math
import string
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Error, Text, register
from seqjax.analysis import markov

from ._levels import entropy


@register("dataset", "markov-chain")
@dataclass(frozen=True)
class MarkovChain(Dataset):
    """Letters drawn from a random Markov chain, whose entropy rate gives the lowest perplexity that a model can reach.

        P[i, :] ~ Dirichlet(concentration, ..., concentration),   x_0 ~ π,   x_{t+1} ~ P[x_t, :]

    State i is the i-th letter of the alphabet, and π is the stationary distribution.
    """

    states: Annotated[int, Interval(ge=2, le=26)] = 8
    """Number of states, which is the number of letters."""
    num_steps: Annotated[int, Interval(ge=1)] = 100_000
    """Length of the text."""
    concentration: Annotated[float, Interval(ge=0.01)] = 0.5
    """Concentration of the rows of the transition matrix. Far below 1 almost every letter has a single successor, and
    far above 1 all successors are equally likely."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the transition matrix and of the letters."""

    def load(self):
        """The text."""
        P = self.transition_matrix
        thresholds = np.cumsum(P, axis=1)[:, :-1].tolist()
        u = np.random.default_rng([self.seed, 1]).random(self.num_steps).tolist()
        first = bisect.bisect(np.cumsum(markov.stationary(P))[:-1].tolist(), u[0])
        ids = itertools.accumulate(u[1:], lambda i, u: bisect.bisect(thresholds[i], u), initial=first)
        return Text("".join(map(string.ascii_lowercase.__getitem__, ids)), "markov-chain")

    @property
    def transition_matrix(self):
        """P, float64[states, states]; P[i, j] is the probability of letter j after letter i."""
        rng = np.random.default_rng([self.seed, 0])
        return rng.dirichlet(np.full(self.states, self.concentration), self.states)

    @property
    def perplexity(self):
        """exp of the chain's entropy rate, the lowest perplexity that a model can reach on a long text."""
        return math.exp(markov.entropy_rate(self.transition_matrix))

    @property
    def floor(self):
        """The entropy rate, in nats for each letter."""
        return markov.entropy_rate(self.transition_matrix)

    @property
    def chance(self):
        """The entropy of the stationary distribution."""
        return entropy(*markov.stationary(self.transition_matrix).tolist())

    def perplexity_on(self, text: str) -> float:
        """The perplexity of the chain itself on a text, whose first letter is given.

        On a random text of n letters it differs from `perplexity` by about 1/√n. Compare it with the perplexity of a
        model on the same text.

        Raises:
            Error: the text has fewer than two letters, or letters that the chain does not have.
        """
        if len(text) < 2:
            raise Error(f"a perplexity needs two letters or more, and the text has {len(text)}")
        ids = np.array([ord(letter) - ord("a") for letter in text])
        return math.exp(-markov.log_probability(self.transition_matrix, ids) / (len(ids) - 1))

"""The dataset of a Markov chain: its distribution, and the lowest perplexity."""

import math

import numpy as np
import pytest

from seqjax import Error, Text
from seqjax.analysis import markov
from seqjax.datasets import MarkovChain


def ids_of(text):
    return np.frombuffer(text.encode(), np.uint8).astype(int) - ord("a")


@pytest.mark.parametrize("states", [2, 5, 26])
def test_the_transitions_have_the_probabilities_of_the_chain(states):
    """Pearson's statistic of the transitions, which is chi-square with states · (states - 1) degrees of freedom."""
    dataset = MarkovChain(states=states, num_steps=200_000, concentration=2.0)
    P, text = dataset.transition_matrix, dataset.load()
    assert isinstance(text, Text)
    assert len(text) == 200_000
    ids = ids_of(text.text)
    found = markov.transition_matrix(ids, states)
    n = np.bincount(ids[:-1], minlength=states)
    expected = n[:, None] * P
    often = expected > 5
    z2 = ((n[:, None] * found - expected) ** 2 / np.where(often, expected, 1))[often].sum()
    degrees = often.sum() - states
    assert abs(z2 - degrees) < 5 * math.sqrt(2 * degrees)
    assert dataset.perplexity == pytest.approx(math.exp(markov.entropy_rate(P)))


def test_the_first_letter_is_drawn_from_the_stationary_distribution():
    """Over seeds, and so over chains, the sum of π of the first letter has a known mean and variance."""
    excess, variance = 0.0, 0.0
    for seed in range(300):
        dataset = MarkovChain(states=3, num_steps=1, seed=seed)
        pi = markov.stationary(dataset.transition_matrix)
        drawn = pi[ids_of(dataset.load().text)[0]]
        excess += drawn - (pi**2).sum()
        variance += (pi**3).sum() - (pi**2).sum() ** 2
    assert abs(excess) < 4 * math.sqrt(variance)


def test_the_chain_and_its_letters_depend_on_the_seed():
    text = MarkovChain(seed=3, num_steps=500).load().text
    assert text == MarkovChain(seed=3, num_steps=500).load().text
    assert text[:100] == MarkovChain(seed=3, num_steps=100).load().text, "a longer text goes on"
    assert text != MarkovChain(seed=4, num_steps=500).load().text
    assert not np.allclose(MarkovChain(seed=3).transition_matrix, MarkovChain(seed=4).transition_matrix)


def test_a_larger_concentration_has_a_higher_perplexity():
    floors = [MarkovChain(states=6, concentration=c).perplexity for c in (0.1, 0.5, 3.0, 1e6)]
    assert floors == sorted(floors)
    assert floors[-1] == pytest.approx(6, rel=1e-5)


def test_the_chains_own_perplexity_on_a_text():
    dataset = MarkovChain(states=3, num_steps=200_000)
    P = dataset.transition_matrix
    assert dataset.perplexity_on("abca") == pytest.approx((P[0, 1] * P[1, 2] * P[2, 0]) ** (-1 / 3))
    assert dataset.perplexity_on(dataset.load().text) == pytest.approx(dataset.perplexity, rel=0.01)
    with pytest.raises(Error, match="states must be from 0 to 2"):
        dataset.perplexity_on("abcd")
    with pytest.raises(Error, match="two letters or more, and the text has 1"):
        dataset.perplexity_on("a")


def test_ranges():
    with pytest.raises(Error) as caught:
        MarkovChain(states=27, num_steps=0, concentration=0)
    assert len(caught.value.problems) == 3

import numpy as np
import pytest

from seqjax import Error, Spec, Tokens
from seqjax_datasets import Add, Copy

SEGMENTS = [
    {},
    {"num_steps": 1003, "min_length": 5, "max_length": 10, "seed": 2},
    {"num_steps": 57, "min_length": 1, "max_length": 3},
    {"num_steps": 1, "min_length": 4, "max_length": 4},
]


@pytest.mark.parametrize("fields", SEGMENTS)
def test_copy_repeats_each_segment_after_it(fields):
    """Parsed: a start token, data up to the first blank, and equally many blanks."""
    dataset = Copy(**fields)
    pairs = dataset.load()
    x, y = pairs.inputs.tolist(), pairs.targets.tolist()
    assert len(x) == len(y) == dataset.num_steps
    assert pairs.spec == Spec(Tokens(6))
    at, lengths = 0, []
    while at < len(x):
        assert x[at] == 1
        m = next((n for n in range(1, len(x) - at) if x[at + n] == 0), len(x) - at)
        segment = x[at : at + m]
        assert set(segment[1:]) <= {2, 3, 4, 5}
        assert set(x[at + m : at + 2 * m]) <= {0}
        assert y[at : at + 2 * m] == ([0] * m + segment)[: len(y) - at]
        lengths.append(m)
        at += 2 * m
    assert all(dataset.min_length <= m <= dataset.max_length for m in lengths[:-1])
    if len(lengths) > 20:
        assert {dataset.min_length, dataset.max_length} <= set(lengths)


def test_the_tokens_and_lengths_of_copy_are_uniform():
    pairs = Copy(num_steps=60_000, min_length=5, max_length=10).load()
    counts = np.bincount(pairs.inputs, minlength=6)[2:]
    assert (abs(counts - counts.mean()) < 5 * np.sqrt(counts.sum() * 3 / 16)).all()
    (starts,) = np.nonzero(pairs.inputs == 1)
    lengths = np.bincount(np.diff(starts) // 2, minlength=11)[5:]
    assert (abs(lengths - lengths.mean()) < 5 * np.sqrt(lengths.sum() * 5 / 36)).all()


def test_copy_refuses_a_min_length_above_max_length():
    with pytest.raises(Error, match="min_length = 11 is above max_length = 10"):
        Copy(min_length=11)


def probability(x, t, t1, t2):
    return 0.5 + 0.5 * (x[t - t1] if t >= t1 else 0) - 0.25 * (x[t - t2] if t >= t2 else 0)


@pytest.mark.parametrize(("t1", "t2"), [(4, 6), (5, 9), (3, 0), (2, 2)])
def test_the_probabilities_of_add_depend_on_its_two_lags(t1, t2):
    """Frequencies for each pair of inputs, within z = 5 of the binomial; with probability 1 they are exact."""
    pairs = Add(num_steps=40_000, t1=t1, t2=t2).load()
    x, y = pairs.inputs.tolist(), pairs.targets.tolist()
    p = np.array([probability(x, t, t1, t2) for t in range(len(x))])
    assert abs(sum(x) - 20_000) < 5 * np.sqrt(10_000)
    assert len(set(p.tolist())) == (4 if t1 != t2 else 2)
    for value in set(p.tolist()):
        drawn = pairs.targets[p == value]
        assert abs(drawn.sum() - len(drawn) * value) <= 5 * np.sqrt(len(drawn) * value * (1 - value))
    assert y != [1] * len(y)
    assert pairs.spec == Spec(Tokens(2))


def test_before_the_start_the_inputs_of_add_are_0():
    """Over seeds half of the first targets are 1; if inputs wrapped around, the share would differ."""
    first = np.array([Add(num_steps=10, t1=4, t2=6, seed=seed).load().targets[:4].tolist() for seed in range(1000)])
    assert (abs(first.sum(0) - 500) < 5 * np.sqrt(250)).all()
    assert Add(num_steps=3, t1=9, t2=5).load().targets.shape == (3,)

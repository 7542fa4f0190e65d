"""The generated tasks follow the rules of their docstrings, which are written here a second time."""

import itertools
import math
import re

import numpy as np
import pytest

from seqjax import Error, Series, Spec, Tokens, Values
from seqjax_datasets import (
    IID,
    NARMA,
    Add,
    Adding,
    AnBn,
    Copy,
    CuedCopy,
    DelayedMatch,
    Dyck,
    FlipFlop,
    Henon,
    Lorenz,
    MackeyGlass,
)


def documents(pairs):
    """(inputs, targets, mask) of each document."""
    return [
        (pairs.inputs[first:last], pairs.targets[first:last], pairs.mask[first:last])
        for first, last in itertools.pairwise(pairs.bounds)
    ]


def assert_frequencies(drawn, probabilities):
    """Each value k occurs with its probability, within z = 5 of the binomial, and no other value occurs."""
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=len(probabilities))
    assert len(counts) == len(probabilities)
    p, n = np.array(probabilities), counts.sum()
    assert n > 100
    assert (abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1e-6).all(), counts


def uniform(size):
    return np.full(size, 1 / size)


@pytest.mark.parametrize("max_n", [1, 2, 5, 16])
def test_an_bn_is_a_stream_of_words_with_as_many_b_as_a(max_n):
    pairs = AnBn(num_steps=30_001, max_n=max_n, seed=1).load()
    assert (pairs.spec, pairs.mask, pairs.bounds.tolist()) == (Spec(Tokens(3)), None, [0, 30_001])
    ids = np.append(pairs.inputs, pairs.targets[-1])
    assert (pairs.targets == ids[1:]).all()
    text = "".join(map(".ab".__getitem__, ids))
    assert text[0] == ".", "the first input is an end"
    *words, last = text[1:].split(".")
    assert all(re.fullmatch("a+b+", word) and word.count("a") == word.count("b") for word in words)
    assert re.fullmatch("a*b*", last)
    assert last.count("b") <= last.count("a") <= max_n
    assert_frequencies([len(word) // 2 - 1 for word in words], uniform(max_n))


@pytest.mark.parametrize(
    "fields",
    [{}, {"length": 1, "values": 2, "delay": 0}, {"length": 4, "values": 3, "delay": 0}, {"length": 2, "delay": 5}],
)
def test_the_data_of_a_cued_copy_are_repeated_at_the_cues(fields):
    dataset = CuedCopy(num_sequences=1000, **fields)
    L, pairs = dataset.length, dataset.load()
    assert pairs.spec == Spec(Tokens(2 + dataset.values), Tokens(dataset.values))
    assert dict(dataset.sampler_fields) == {"num_steps": 2 * L + dataset.delay}
    data = []
    for x, y, mask in documents(pairs):
        assert (x[:L] >= 2).all()
        assert x[L:].tolist() == [0] * dataset.delay + [1] * L
        assert mask.tolist() == [False] * (L + dataset.delay) + [True] * L
        assert y[mask].tolist() == [token - 2 for token in x[:L]]
        data.append(y[mask])
    assert len(data) == 1000
    assert_frequencies(data, uniform(dataset.values))
    if L > 1:  # a token does not depend on the one before it
        pairs_of_tokens = [one * dataset.values + two for one, two in np.array(data)[:, :2]]
        assert_frequencies(pairs_of_tokens, uniform(dataset.values**2))


@pytest.mark.parametrize("fields", [{}, {"values": 2, "delay": 0}, {"values": 7, "delay": 3}])
def test_a_delayed_match_compares_the_first_token_and_the_last(fields):
    dataset = DelayedMatch(num_sequences=3000, **fields)
    K, delay, pairs = dataset.values, dataset.delay, dataset.load()
    assert pairs.spec == Spec(Tokens(1 + K), Tokens(2))
    assert dict(dataset.sampler_fields) == {"num_steps": delay + 2}
    read = []
    for x, y, mask in documents(pairs):
        assert x[1:-1].tolist() == [0] * delay
        assert mask.tolist() == [False] * (delay + 1) + [True]
        assert y[-1] == (x[0] == x[-1])
        read.append((x[0] - 1, x[-1] - 1, y[-1]))
    first, last, same = np.array(read).T
    assert len(same) == 3000
    assert_frequencies(same, [0.5, 0.5])
    # Each of the two tokens alone says nothing about the target, and other tokens are equally likely.
    assert_frequencies(first * 2 + same, uniform(2 * K))
    assert_frequencies(last * 2 + same, uniform(2 * K))
    assert_frequencies((last - first)[same == 0] % K, [0, *uniform(K - 1)])


@pytest.mark.parametrize(
    "fields", [{}, {"kinds": 3, "max_depth": 1}, {"kinds": 1, "max_depth": 6, "opening": 0.7}, {"opening": 0.2}]
)
def test_the_brackets_of_dyck_are_balanced(fields):
    dataset = Dyck(num_steps=20_000, seed=2, **fields)
    K, D, pairs = dataset.kinds, dataset.max_depth, dataset.load()
    assert (pairs.spec, pairs.mask, len(pairs)) == (Spec(Tokens(2 * K)), None, 20_000)
    ids = np.append(pairs.inputs, pairs.targets[-1]).tolist()
    assert pairs.targets.tolist() == ids[1:]
    stack, opened, depths = [], [], []
    for token in ids:
        if 0 < len(stack) < D:
            opened.append(token < K)
        depths.append(len(stack))
        if token < K:
            stack.append(token)
        else:
            assert stack.pop() == token - K
        assert len(stack) <= D
    assert set(depths) == set(range(D + 1))
    assert_frequencies([token for token in ids if token < K], uniform(K))
    if D > 1:
        assert_frequencies(np.array(opened).astype(int), [1 - dataset.opening, dataset.opening])


@pytest.mark.parametrize("fields", [{}, {"channels": 1, "rate": 0.5}, {"channels": 2, "rate": 1.0}, {"rate": 0.001}])
def test_the_target_of_flip_flop_is_the_last_pulse(fields):
    dataset = FlipFlop(num_steps=5000, seed=3, **fields)
    pairs = dataset.load()
    assert (pairs.spec, pairs.mask) == (Spec(Values(dataset.channels)), None)
    held = [0.0] * dataset.channels
    for x, y in zip(pairs.inputs.tolist(), pairs.targets.tolist(), strict=True):
        held = [now if now else before for now, before in zip(x, held, strict=True)]
        assert y == held
    half = dataset.rate / 2
    assert_frequencies(pairs.inputs.astype(int) + 1, [half, 1 - dataset.rate, half])
    if dataset.channels > 1 and dataset.rate < 1:  # the channels are drawn separately
        both = (pairs.inputs[:, :2] != 0).all(1)
        assert_frequencies(both.astype(int), [1 - dataset.rate**2, dataset.rate**2])


@pytest.mark.parametrize(
    "fields", [{}, {"length": 2}, {"length": 12, "gap": 3}, {"length": 5, "gap": 3}, {"length": 10, "gap": 1}]
)
def test_two_numbers_of_adding_are_marked_before_the_gap(fields):
    dataset = Adding(num_sequences=1000, seed=4, **fields)
    T, gap, pairs = dataset.length, dataset.gap, dataset.load()
    assert pairs.spec == Spec(Values(2), Values(1))
    assert dict(dataset.sampler_fields) == {"num_steps": T}
    marked = []
    for x, y, mask in documents(pairs):
        numbers, marks = x.T.tolist()
        assert len(x) == T
        assert sorted(marks) == [0.0] * (T - 2) + [1.0] * 2
        marked.append([t for t in range(T) if marks[t]])
        assert mask.tolist() == [False] * (T - 1) + [True]
        assert y[-1, 0] == sum(number for number, mark in zip(numbers, marks, strict=True) if mark)
    assert len(marked) == 1000
    steps = T - gap
    pair_of = {pair: n for n, pair in enumerate(itertools.combinations(range(steps), 2))}
    assert_frequencies([pair_of[tuple(pair)] for pair in marked], uniform(len(pair_of)))
    assert_frequencies((pairs.inputs[:, 0] * 10).astype(int), uniform(10))


def test_adding_refuses_a_gap_that_leaves_fewer_than_two_steps():
    assert Adding(length=5, gap=3).load().spec.targets == Values(1)
    with pytest.raises(Error, match="gap = 4 leaves fewer than two of length = 5 steps"):
        Adding(length=5, gap=4)


def test_the_targets_of_iid_depend_on_nothing():
    pairs = IID(num_steps=20_000, probability=0.3).load()
    x, y = pairs.inputs, pairs.targets
    assert (pairs.spec, pairs.mask) == (Spec(Tokens(2)), None)
    for context in (np.zeros_like(x), x, np.roll(x, 1), np.roll(x, -1), np.roll(y, 1)):
        for value in set(context.tolist()):
            assert_frequencies(y[context == value], [0.7, 0.3])
    assert_frequencies(x, [0.5, 0.5])


def narma(u, order):
    """Targets by the equation, with a plain sum over the last `order` values."""
    y = [0.0]
    for t in range(len(u)):
        last = sum(y[s] for s in range(max(0, t - order + 1), t + 1))
        before = u[t - order + 1] if t >= order - 1 else 0.0
        y.append(0.3 * y[t] + 0.05 * y[t] * last + 1.5 * before * u[t] + 0.1)
    return y[1:]


def normalised(values):
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / math.sqrt(variance) for value in values]


@pytest.mark.parametrize(("order", "seed"), [(10, 0), (10, 1), (1, 0), (2, 5), (7, 0)])
def test_the_targets_of_narma_follow_from_its_inputs(order, seed):
    pairs = NARMA(num_steps=500, order=order, seed=seed).load()
    assert (pairs.spec, pairs.mask, pairs.bounds.tolist()) == (Spec(Values(1)), None, [0, 500])
    u = pairs.inputs[:, 0]
    np.testing.assert_allclose(pairs.targets[:, 0], normalised(narma(u.tolist(), order)), rtol=0, atol=1e-12)
    assert_frequencies((u * 20).astype(int), uniform(10))


def test_inputs_after_which_the_filter_diverges_are_drawn_again():
    """Seed 4 diverges in its first 20,000 steps: its inputs are those of the seed up to 200 steps before."""
    pairs = NARMA(seed=4).load()
    u, drawn = pairs.inputs[:, 0], np.random.default_rng(4).uniform(0, 0.5, 20_000)
    y = narma(u.tolist(), 10)
    np.testing.assert_allclose(pairs.targets[:, 0], normalised(y), rtol=0, atol=1e-9)
    assert max(y) < 2
    changed = np.flatnonzero(u != drawn)
    begin, end = changed[0], changed[-1]
    assert 0 < end - begin <= 200
    with np.errstate(over="ignore", invalid="ignore"):
        assert not max(narma(drawn[: end + 1].tolist(), 10)) < 1e3


def test_a_filter_that_always_diverges_is_an_error():
    with pytest.raises(Error, match="order 30 diverges too often; choose an order of at most 10"):
        NARMA(order=30).load()


def henon(x, num_steps):
    y, xs = 0.0, []
    for _ in range(num_steps):
        xs.append(x)
        x, y = 1 - (x * x) * 1.4 + y, x * 0.3
    return xs


def lorenz(state, num_steps):
    x, y, z = state
    xs = []
    for _ in range(num_steps + 100):
        xs.append(x)
        for _ in range(2):
            dx, dy, dz = 10 * (y - x), x * (28 - z) - y, x * y - (8 / 3) * z
            x, y, z = x + 0.01 * dx, y + 0.01 * dy, z + 0.01 * dz
    return xs[100:]


def mackey_glass(x, num_steps, delay):
    past = [x] * (10 * delay + 1)
    xs = []
    for _ in range(num_steps + 200):
        xs.append(past[-1])
        for _ in range(10):
            delayed, now = past[-1 - 10 * delay], past[-1]
            square = delayed * delayed
            tenth = square * square * (square * square) * square
            past.append(now + 0.1 * (0.2 * delayed / (1 + tenth) - 0.1 * now))
    return xs[200:]


def starts_of_lorenz(seed, num_series):
    noise = np.random.default_rng(seed).normal(size=(num_series, 3))
    return (1 + 0.1 * noise).tolist()


def starts_of_mackey_glass(seed, num_series):
    return np.random.default_rng(seed).uniform(0.5, 1.5, num_series).tolist()


ORBITS = {
    "henon": (Henon(num_steps=200), [henon(0.1, 200)]),
    "henon, three series": (
        Henon(num_steps=50, num_series=3, seed=7),
        [henon(0.1 + 0.01 * k + 1e-6 * 7, 50) for k in range(3)],
    ),
    "lorenz": (Lorenz(num_steps=300), [lorenz(*starts_of_lorenz(0, 1), 300)]),
    "lorenz, two series": (
        Lorenz(num_steps=100, num_series=2, seed=5),
        [lorenz(start, 100) for start in starts_of_lorenz(5, 2)],
    ),
    "mackey-glass": (MackeyGlass(num_steps=300), [mackey_glass(*starts_of_mackey_glass(0, 1), 300, 17)]),
    "mackey-glass, three series": (
        MackeyGlass(num_steps=60, num_series=3, delay=6, seed=2),
        [mackey_glass(start, 60, 6) for start in starts_of_mackey_glass(2, 3)],
    ),
}
"""Dataset, and each of its series by a loop over Python floats, before it is normalised."""


@pytest.mark.parametrize("name", ORBITS)
def test_a_chaotic_series_is_that_of_a_plain_loop(name):
    dataset, orbits = ORBITS[name]
    series = dataset.load()
    assert isinstance(series, Series)
    assert series.bounds.tolist() == [dataset.num_steps * k for k in range(len(orbits) + 1)]
    expected = np.concatenate([normalised(orbit) for orbit in orbits])
    np.testing.assert_allclose(series.values[:, 0], expected, rtol=0, atol=1e-11)
    assert len(set(series.values[:: dataset.num_steps, 0])) == len(orbits), "each series has a start of its own"


RECORDED = {
    "henon": (Henon(), [15_000, 17_500, 19_999], [0.5922404131765882, 1.3324908053822662, 0.4548463612254759]),
    "lorenz": (
        Lorenz(num_steps=5000),
        [3000, 4000, 4999],
        [0.6187366694154137, -0.40504086863390526, -0.8672606624650477],
    ),
    "mackey-glass": (
        MackeyGlass(num_steps=5000),
        [3000, 4000, 4999],
        [-1.1796928725705786, 0.99654329965499, -1.6535529812707894],
    ),
    "narma": (NARMA(), [15_000, 17_500, 19_999], [-1.2043258853975987, 0.6529518329736733, -0.8743562826803911]),
}
"""Dataset, late time steps, and the values there."""


@pytest.mark.parametrize("name", RECORDED)
def test_all_machines_compute_the_same_series(name):
    """Another rounding in a chaotic series grows to the size of the series until these steps."""
    dataset, steps, recorded = RECORDED[name]
    data = dataset.load()
    values = data.values if isinstance(data, Series) else data.targets
    np.testing.assert_allclose(values[steps, 0], recorded, rtol=0, atol=1e-9)


def test_all_series_of_henon_are_bounded():
    values = Henon(num_steps=1000, num_series=100, seed=99).load().values
    assert abs(values).max() < 2.5


def test_mackey_glass_refuses_a_delay_with_which_the_series_is_constant():
    """x = 1 is stable below the delay arccos(-1/4) / √.15 = 4.71; from 5 on there is a cycle."""
    assert np.isfinite(MackeyGlass(num_steps=1000, delay=5).load().values).all()
    with pytest.raises(Error, match="delay"):
        MackeyGlass(delay=4)


SMALL = [
    Add(num_steps=500),
    Adding(num_sequences=50),
    AnBn(num_steps=500),
    Copy(num_steps=500),
    CuedCopy(num_sequences=50),
    DelayedMatch(num_sequences=50),
    Dyck(num_steps=500),
    FlipFlop(num_steps=500),
    Henon(num_steps=500),
    IID(num_steps=500),
    Lorenz(num_steps=100),
    MackeyGlass(num_steps=100),
    NARMA(num_steps=500),
]


@pytest.mark.parametrize("dataset", SMALL, ids=lambda dataset: type(dataset).__name__)
def test_the_data_depend_on_the_seed(dataset):
    """Both the inputs and the targets do."""
    same, other = type(dataset)(**vars(dataset)).load(), type(dataset)(**vars(dataset) | {"seed": 1}).load()
    data = dataset.load()
    assert data == same
    assert all(other.arrays[name].tobytes() != array.tobytes() for name, array in data.arrays.items() if name != "mask")
    assert (other.bounds == data.bounds).all()
    if not isinstance(data, Series):
        assert other.spec == data.spec

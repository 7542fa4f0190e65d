"""The generated tasks follow the rules of their docstrings, which are written here a second time.

Their `floor` and `chance` are the losses of predictors that know the rule, or the frequencies alone.
"""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest

import seqjax
from seqjax import Error, Pairs, Series, Spec, Tokens, Values
from seqjax.datasets import (
    IID,
    NARMA,
    Add,
    Adding,
    AnBn,
    Copy,
    CuedCopy,
    DelayedMatch,
    Digits,
    Dyck,
    FlipFlop,
    Henon,
    Lorenz,
    MackeyGlass,
    MarkovChain,
    NoisySine,
    PythonDocs,
    Stocks,
    TextFile,
)
from seqjax.testing.compare import Failed
from seqjax.testing.dataset import check_levels


def load(dataset):
    """The pairs of a dataset, and the mask."""
    pairs = dataset.load()
    if isinstance(pairs, seqjax.Text):
        ids = np.frombuffer(pairs.text.encode(), np.uint8).astype(int) - ord("a")
        pairs = Pairs(ids[:-1], ids[1:])
    return pairs, np.ones(len(pairs), bool) if pairs.mask is None else pairs.mask


def sequences(dataset, pairs, num_steps):
    """Inputs, targets and mask of documents of one length, which is that of the default windows; [N, T, ...]."""
    assert dict(dataset.sampler_fields) == {"num_steps": num_steps}
    assert pairs.bounds.tolist() == list(range(0, len(pairs) + 1, num_steps))
    assert len(pairs.bounds) == dataset.num_sequences + 1
    return [a.reshape(-1, num_steps, *a.shape[1:]) for a in (pairs.inputs, pairs.targets, pairs.mask)]


def assert_frequencies(drawn, probabilities):
    """Each value k occurs with its probability, within z = 5 of the binomial, and no other value occurs."""
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=len(probabilities))
    assert len(counts) == len(probabilities)
    p, n = np.array(probabilities), counts.sum()
    assert n > 100
    assert (abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)) + 1e-6).all(), counts


def uniform(size):
    return np.full(size, 1 / size)


def after_words(dataset, inputs):
    """The probabilities of the next token of aⁿbⁿ, [T, 3].

    n is uniform: after k a's, N - k of the N - k + 1 words that are left go on.
    """
    is_a, is_b = inputs == 1, inputs == 2
    end = np.maximum.accumulate(np.where(inputs == 0, np.arange(len(inputs)), 0))
    a, b = (each - each[end] for each in (np.cumsum(is_a), np.cumsum(is_b)))
    more = is_a * (dataset.max_n - a) / (dataset.max_n - a + 1)
    return np.stack([is_b & (a == b), (inputs == 0) + more, (is_b & (a > b)) + is_a * (1 - more)], 1)


def an_bn(dataset, pairs):
    """A stream of words with as many b as a."""
    assert (pairs.spec, pairs.mask, pairs.bounds.tolist()) == (Spec(Tokens(3)), None, [0, dataset.num_steps])
    ids = np.append(pairs.inputs, pairs.targets[-1])
    assert (pairs.targets == ids[1:]).all()
    text = "".join(map(".ab".__getitem__, ids))
    assert text[0] == ".", "the first input is an end"
    *words, last = text[1:].split(".")
    assert all(re.fullmatch("a+b+", word) and word.count("a") == word.count("b") for word in words)
    assert re.fullmatch("a*b*", last)
    assert last.count("b") <= last.count("a") <= dataset.max_n
    assert_frequencies([len(word) // 2 - 1 for word in words], uniform(dataset.max_n))
    return after_words(dataset, pairs.inputs)[np.arange(len(pairs)), pairs.targets]


def dyck(dataset, pairs):
    """Balanced brackets."""
    K, D = dataset.kinds, dataset.max_depth
    assert (pairs.spec, pairs.mask, len(pairs)) == (Spec(Tokens(2 * K)), None, dataset.num_steps)
    ids = np.append(pairs.inputs, pairs.targets[-1]).tolist()
    assert pairs.targets.tolist() == ids[1:]
    stack, opened, p, depths = [], [], [], set()
    for token in ids:
        depths.add(len(stack))
        opens = 1.0 if not stack else 0.0 if len(stack) == D else dataset.opening
        if 0 < len(stack) < D:
            opened.append(token < K)
        if token < K:
            stack.append(token)
            p.append(opens / K)
        else:
            assert stack.pop() == token - K
            p.append(1 - opens)
    assert depths == set(range(D + 1))
    assert_frequencies([token for token in ids if token < K], uniform(K))
    if D > 1:
        assert_frequencies(np.array(opened).astype(int), [1 - dataset.opening, dataset.opening])
    return np.array(p[1:])


def add(dataset, pairs):
    """The probability of a 1 depends on two lags; where it is 1, the frequency is exact."""
    n, x, y = dataset.num_steps, pairs.inputs, pairs.targets
    x_t1, x_t2 = (np.append(np.zeros(lag, int), x)[:n] for lag in (dataset.t1, dataset.t2))
    p = 0.5 + 0.5 * x_t1 - 0.25 * x_t2
    assert pairs.spec == Spec(Tokens(2))
    assert_frequencies(x, [0.5, 0.5])
    assert len(set(p.tolist())) == (4 if dataset.t1 != dataset.t2 else 2)
    for value in set(p.tolist()):
        assert_frequencies(y[p == value], [1 - value, value] if value < 1 else [0, 1])
    return np.where(y == 1, p, 1 - p)


def iid(dataset, pairs):
    """The targets depend on nothing."""
    x, y, p = pairs.inputs, pairs.targets, np.array([1 - dataset.probability, dataset.probability])
    assert (pairs.spec, pairs.mask) == (Spec(Tokens(2)), None)
    for context in (np.zeros_like(x), x, np.roll(x, 1), np.roll(x, -1), np.roll(y, 1)):
        for value in set(context.tolist()):
            assert_frequencies(y[context == value], p)
    assert_frequencies(x, [0.5, 0.5])
    return p[y]


def markov_chain(dataset, pairs):
    """test_markov_chain.py tests the transitions."""
    return dataset.transition_matrix[pairs.inputs, pairs.targets]


def copy(dataset, pairs):
    """Parsed: a start token, data up to the first blank, and equally many blanks."""
    x, y = pairs.inputs.tolist(), pairs.targets.tolist()
    assert len(x) == len(y) == dataset.num_steps
    assert pairs.spec == Spec(Tokens(6))
    at, lengths, ended = 0, [], [*x, 0]
    while at < len(x):
        assert x[at] == 1
        m = ended.index(0, at) - at
        segment = x[at : at + m]
        assert set(segment[1:]) <= {2, 3, 4, 5}
        assert set(x[at + m : at + 2 * m]) <= {0}
        assert y[at : at + 2 * m] == ([0] * m + segment)[: len(y) - at]
        lengths.append(m)
        at += 2 * m
    least, most = dataset.min_length, dataset.max_length
    assert all(least <= m <= most for m in lengths[:-1])  # the last segment may be incomplete
    if len(lengths) > 100:
        assert_frequencies(np.array(lengths[:-1]) - least, uniform(most - least + 1))
        assert_frequencies([token - 2 for token in x if token > 1], uniform(4))


def cued_copy(dataset, pairs):
    """The data are repeated at the cues."""
    L, delay, K = dataset.length, dataset.delay, dataset.values
    assert pairs.spec == Spec(Tokens(2 + K), Tokens(K))
    x, y, mask = sequences(dataset, pairs, 2 * L + delay)
    data = x[:, :L] - 2
    assert (data >= 0).all()
    assert (x[:, L:] == [0] * delay + [1] * L).all()
    assert (mask == [False] * (L + delay) + [True] * L).all()
    assert (y[:, L + delay :] == data).all()
    assert_frequencies(data, uniform(K))
    if L > 1:  # a token does not depend on the one before it
        assert_frequencies(data[:, 0] * K + data[:, 1], uniform(K**2))


def delayed_match(dataset, pairs):
    """The first token is compared with the last one."""
    K, delay = dataset.values, dataset.delay
    assert pairs.spec == Spec(Tokens(1 + K), Tokens(2))
    x, y, mask = sequences(dataset, pairs, delay + 2)
    first, last, same = x[:, 0] - 1, x[:, -1] - 1, y[:, -1]
    assert not x[:, 1:-1].any()
    assert (mask == [False] * (delay + 1) + [True]).all()
    assert (same == (first == last)).all()
    assert_frequencies(same, [0.5, 0.5])
    # Each of the two tokens alone says nothing about the target, and other tokens are equally likely.
    assert_frequencies(first * 2 + same, uniform(2 * K))
    assert_frequencies(last * 2 + same, uniform(2 * K))
    assert_frequencies((last - first)[same == 0] % K, [0, *uniform(K - 1)])


def flip_flop(dataset, pairs):
    """The target is the last pulse."""
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


def adding(dataset, pairs):
    """Two numbers are marked before the gap."""
    T = dataset.length
    assert pairs.spec == Spec(Values(2), Values(1))
    x, y, mask = sequences(dataset, pairs, T)
    numbers, marks = x[..., 0], x[..., 1]
    assert (np.sort(marks, 1) == [0.0] * (T - 2) + [1.0] * 2).all()
    assert (mask == [False] * (T - 1) + [True]).all()
    assert (y[:, -1, 0] == (numbers * marks).sum(1)).all()
    pair_of = {pair: n for n, pair in enumerate(itertools.combinations(range(T - dataset.gap), 2))}
    marked = np.nonzero(marks)[1].reshape(-1, 2).tolist()
    assert_frequencies([pair_of[tuple(pair)] for pair in marked], uniform(len(pair_of)))
    assert_frequencies((numbers * 10).astype(int), uniform(10))


RULES = {
    AnBn: an_bn,
    Dyck: dyck,
    Add: add,
    IID: iid,
    MarkovChain: markov_chain,
    Copy: copy,
    CuedCopy: cued_copy,
    DelayedMatch: delayed_match,
    FlipFlop: flip_flop,
    Adding: adding,
}
"""Checks of a dataset and its pairs. They return the probabilities of the targets, or None if the rule gives these."""
CASES = {
    "an-bn": AnBn(num_steps=100_000),
    "an-bn, max_n = 1": AnBn(num_steps=30_001, max_n=1, seed=1),
    "an-bn, max_n = 2": AnBn(num_steps=30_001, max_n=2, seed=1),
    "an-bn, max_n = 5": AnBn(num_steps=30_001, max_n=5, seed=2),
    "dyck": Dyck(num_steps=40_000),
    "dyck, nothing to choose": Dyck(num_steps=1000, kinds=1, max_depth=1),
    "dyck, three kinds without depth": Dyck(num_steps=20_000, kinds=3, max_depth=1, seed=2),
    "dyck, one kind": Dyck(num_steps=40_000, kinds=1, max_depth=6, opening=0.7),
    "dyck, rare openings": Dyck(num_steps=40_000, kinds=3, max_depth=3, opening=0.3),
    "add": Add(num_steps=100_000),
    "add, the same lag twice": Add(num_steps=40_000, t1=3, t2=3),
    "add, no lag": Add(num_steps=100_000, t1=0, t2=9, seed=1),
    "add, no second lag": Add(num_steps=40_000, t1=3, t2=0),
    "iid": IID(num_steps=40_000, probability=0.3),
    "iid, rare ones": IID(num_steps=100_000, probability=0.1),
    "markov-chain": MarkovChain(num_steps=100_000),
    "markov-chain, three states": MarkovChain(num_steps=40_000, states=3, concentration=2.0),
    "copy": Copy(num_steps=20_000),
    "copy, several lengths": Copy(num_steps=20_003, min_length=1, max_length=3, seed=3),
    "cued-copy": CuedCopy(num_sequences=4000),
    "cued-copy, one token": CuedCopy(num_sequences=1000, length=1, values=2, delay=0),
    "cued-copy, no delay": CuedCopy(num_sequences=1000, length=4, values=3, delay=0),
    "cued-copy, two tokens": CuedCopy(num_sequences=1000, length=2, delay=5),
    "delayed-match": DelayedMatch(num_sequences=4000),
    "delayed-match, no delay": DelayedMatch(num_sequences=3000, values=2, delay=0),
    "delayed-match, seven values": DelayedMatch(num_sequences=3000, values=7, delay=3),
    "flip-flop": FlipFlop(num_steps=5000, seed=3),
    "flip-flop, one channel": FlipFlop(num_steps=5000, channels=1, rate=0.5, seed=3),
    "flip-flop, a pulse at each step": FlipFlop(num_steps=5000, channels=2, rate=1.0, seed=3),
    "flip-flop, rare pulses": FlipFlop(num_steps=5000, rate=0.001, seed=3),
    "adding": Adding(num_sequences=1000, seed=4),
    "adding, two steps": Adding(num_sequences=1000, length=2, seed=4),
    "adding, a gap": Adding(num_sequences=1000, length=12, gap=3, seed=4),
    "adding, two steps before the gap": Adding(num_sequences=1000, length=5, gap=3, seed=4),
    "adding, a gap of one step": Adding(num_sequences=1000, length=10, gap=1, seed=4),
}


def assert_mean(losses, level, slack=0.0, blocks=50):
    """The mean is within five standard errors, which the means of blocks give, since neighbours are dependent."""
    means = [block.mean() for block in np.array_split(losses, blocks)]
    allowed = 5 * np.std(means, ddof=1) / math.sqrt(blocks) + slack
    assert allowed <= 0.05 * level, "the test would find no wrong level"
    assert abs(losses.mean() - level) <= allowed + 1e-12, (losses.mean(), level, allowed)


@pytest.mark.parametrize("name", CASES)
def test_the_data_follow_the_rule_whose_entropy_is_the_floor(name):
    dataset = CASES[name]
    p = RULES[type(dataset)](dataset, load(dataset)[0])
    if p is None or (p == 1).all():
        assert dataset.floor == 0
    else:
        assert_mean(-np.log(p), dataset.floor)
        assert 0 < dataset.floor <= dataset.chance


@pytest.mark.parametrize("dataset", [Copy(num_steps=57, max_length=3, min_length=1), Copy(1, 4, 4)], ids=repr)
def test_a_short_copy_ends_within_a_segment(dataset):
    copy(dataset, dataset.load())


@pytest.mark.parametrize("max_n", [1, 2, 16])
def test_the_best_accuracy_of_an_bn(max_n):
    dataset = AnBn(num_steps=30_000, max_n=max_n)
    pairs = dataset.load()
    correct = after_words(dataset, pairs.inputs).argmax(1) == pairs.targets
    assert_mean(correct.astype(float), dataset.best_accuracy)


@pytest.mark.parametrize("name", [name for name, dataset in CASES.items() if not dataset.of_values] + ["digits"])
def test_a_predictor_that_knows_the_frequencies_has_the_loss_chance(name):
    """That K frequencies are those of the data themselves lowers the loss by about K / 2n."""
    dataset = CASES.get(name, Digits())
    pairs, mask = load(dataset)
    targets = pairs.targets[mask]
    frequencies = np.bincount(targets) / len(targets)
    assert_mean(-np.log(frequencies[targets]), dataset.chance, slack=2 * len(frequencies) / len(targets))


def test_before_the_start_the_inputs_of_add_are_0():
    """Over seeds half of the first targets are 1; if inputs wrapped around, the share would differ."""
    first = np.array([Add(num_steps=10, t1=4, t2=6, seed=seed).load().targets[:4].tolist() for seed in range(1000)])
    assert (abs(first.sum(0) - 500) < 5 * np.sqrt(250)).all()
    assert Add(num_steps=3, t1=9, t2=5).load().targets.shape == (3,)


def test_copy_refuses_a_min_length_above_max_length():
    with pytest.raises(Error, match="min_length = 11 is above max_length = 10"):
        Copy(min_length=11)


def test_adding_refuses_a_gap_that_leaves_fewer_than_two_steps():
    assert Adding(length=5, gap=3).load().spec.targets == Values(1)
    with pytest.raises(Error, match="gap = 4 leaves fewer than two of length = 5 steps"):
        Adding(length=5, gap=4)


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
"""Dataset, and each of its series by a loop over Python floats, before they are normalised together."""


@pytest.mark.parametrize("name", ORBITS)
def test_a_chaotic_series_is_that_of_a_plain_loop(name):
    dataset, orbits = ORBITS[name]
    series = dataset.load()
    assert isinstance(series, Series)
    assert series.bounds.tolist() == [dataset.num_steps * k for k in range(len(orbits) + 1)]
    expected = normalised([value for orbit in orbits for value in orbit])
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


def test_the_next_value_of_henon_is_a_polynomial_of_the_last_two():
    """z is a linear function of x, so that z_{t+1} is one of (1, z_t, z_t², z_{t-1}); that of z_{t-1} is b = .3."""
    dataset = Henon(num_steps=1000, num_series=2)
    for z in dataset.load().values.reshape(2, 1000):
        features = np.stack([np.ones(998), z[1:-1], z[1:-1] ** 2, z[:-2]], 1)
        weights = np.linalg.lstsq(features, z[2:], rcond=None)[0]
        assert np.mean((features @ weights - z[2:]) ** 2) < 1e-20
        assert weights[3] == pytest.approx(0.3, abs=1e-10)
    assert dataset.floor == 0


@pytest.mark.parametrize("dataset", [Lorenz(), MackeyGlass(), NARMA()], ids=["lorenz", "mackey-glass", "narma"])
def test_the_floor_of_other_series_without_noise_is_0(dataset):
    """A plain loop computes them."""
    assert dataset.floor == 0


@pytest.mark.parametrize("fields", [{}, {"noise": 0.5, "frequency": 0.3}, {"noise": 0.0}])
def test_the_floor_of_a_noisy_sine_is_the_error_of_the_sine(fields):
    dataset = NoisySine(num_steps=40_000, **fields)
    t = np.arange(1, 40_001)
    sine = np.sin((fields.get("frequency") or 0.01) * t)
    assert_mean((dataset.load().values[:, 0] - sine) ** 2, dataset.floor)


OF_SEEDS = {
    "adding": (Adding(num_sequences=200, length=4), 100),
    "flip-flop": (FlipFlop(num_steps=30), 600),
    "flip-flop, a pulse at each step": (FlipFlop(num_steps=10, rate=1.0), 300),
    "noisy-sine": (NoisySine(num_steps=100, frequency=0.02), 300),
}
SLOW_SEEDS = {
    "adding, a gap": (Adding(num_sequences=200, length=6, gap=4), 100),
    "flip-flop, one channel": (FlipFlop(num_steps=10, channels=1, rate=0.3), 1000),
    "noisy-sine, much noise": (NoisySine(num_steps=50, noise=2.0, frequency=0.3), 1000),
}
"""Datasets of values, whose mean over many seeds is compared, since one stream has too few independent steps."""


@pytest.mark.parametrize("name", [*OF_SEEDS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_SEEDS)])
def test_the_best_constant_has_the_squared_error_chance(name):
    dataset, seeds = (OF_SEEDS | SLOW_SEEDS)[name]
    loaded = [dataclasses.replace(dataset, seed=seed).load() for seed in range(seeds)]
    targets = np.array(
        [
            data.values if isinstance(data, Series) else data.targets[... if data.mask is None else data.mask]
            for data in loaded
        ]
    )
    losses = ((targets - targets.mean((0, 1))) ** 2).mean((1, 2))
    assert_mean(losses, dataset.chance)


@pytest.mark.parametrize(
    "dataset", [Henon(num_series=3), Lorenz(num_steps=500), MackeyGlass(num_steps=500, delay=5), NARMA(order=3)],
    ids=lambda dataset: type(dataset).__name__,
)  # fmt: skip
def test_a_normalised_series_has_the_variance_chance(dataset):
    data = dataset.load()
    targets = data.targets if isinstance(data, Pairs) else data.values
    assert targets.mean() == pytest.approx(0, abs=1e-12)
    assert targets.var() == pytest.approx(dataset.chance, abs=1e-12)


PUBLISHED = [
    (AnBn(), 0.1540, 0.8692),
    (AnBn(max_n=1), 0, math.log(3)),
    (Add(), 0.4545, 0.6616),
    (Adding(), 0, 1 / 6),
    (CuedCopy(), 0, math.log(8)),
    (CuedCopy(values=2), 0, math.log(2)),
    (DelayedMatch(values=9), 0, math.log(2)),
    # At the depths 0 to 4 the chain is in proportion to 1, 2, 2, 2, 1.
    (Dyck(), 10 / 8 * math.log(2), math.log(4)),
    (Dyck(kinds=3, max_depth=1), math.log(3) / 2, math.log(6)),
    (IID(), 0.6616, 0.6616),
    (NoisySine(), 0.04, 0.04 + 0.5 - (math.sin(20) - math.sin(0)) / 40 - ((1 - math.cos(10)) / 10) ** 2),
    (Digits(), None, math.log(10)),
    (PythonDocs(), None, None),
    (Stocks(), None, None),
    (TextFile(path="a.txt"), None, None),
]
"""Dataset, floor and chance, from papers or by hand, to four places, or for a sine by integrals, to two."""


@pytest.mark.parametrize(("dataset", "floor", "chance"), PUBLISHED, ids=lambda each: str(each)[:40])
def test_the_levels_are_the_known_ones(dataset, floor, chance):
    digits = 2 if isinstance(dataset, NoisySine) else 4
    assert [dataset.floor, dataset.chance] == pytest.approx([floor, chance], abs=0.51 * 10**-digits)


def test_the_accuracy_of_an_bn_is_the_known_one():
    assert AnBn().best_accuracy == pytest.approx(0.9479, abs=5e-5)


@pytest.mark.parametrize(
    "dataset",
    [
        *{type(each): each for each in CASES.values() if not isinstance(each, MarkovChain)}.values(),
        Henon(num_steps=500),
        Lorenz(num_steps=100),
        MackeyGlass(num_steps=100),
        NARMA(num_steps=500),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_the_data_depend_on_the_seed(dataset):
    """Both the inputs and the targets do."""
    data, same, other = (dataclasses.replace(dataset, seed=dataset.seed + n).load() for n in (0, 0, 1))
    assert data == same
    assert all(other.arrays[name].tobytes() != array.tobytes() for name, array in data.arrays.items() if name != "mask")
    assert (other.bounds == data.bounds).all()
    if not isinstance(data, Series):
        assert other.spec == data.spec


class Uniform(seqjax.Dataset):
    """Eight of nine ids, which are equally likely."""

    def load(self):
        return Pairs(*np.random.default_rng(0).integers(8, size=(2, 2000)), spec=Spec(Tokens(9)))


def with_levels(floor, chance):
    """Class attributes, since a field cannot be NaN."""
    return type("Levelled", (Uniform,), {"floor": floor, "chance": chance})()


def test_right_levels_pass_the_check():
    """The ninth id never occurs."""
    found = check_levels(with_levels(0.0, math.log(8)))
    assert found.note.startswith("floor 0.0, chance 2.079, on the data 2.07")
    assert check_levels(with_levels(None, math.log(8))).note.startswith("floor None, chance 2.079")
    assert check_levels(with_levels(math.log(8), math.log(8))).note.startswith("floor 2.07")


def test_a_dataset_without_levels_passes_the_check():
    assert check_levels(Uniform()).note == "none is given"


WRONG = {
    "chance is too low": (
        None,
        0.97 * math.log(8),
        r"a constant prediction has the loss 2\.07\d*, and chance is 2\.017",
    ),
    "chance is too high": (None, 1.03 * math.log(8), r"and chance is 2\.142"),
    "chance of another number of ids": (0.0, math.log(9), r"and chance is 2\.197"),
    "chance in bits": (0.0, 3.0, "and chance is 3"),
    "the floor is above chance": (2.1, math.log(8), r"the floor 2\.1 must lie between 0 and the chance level 2\.079"),
    "the floor is negative": (-0.1, math.log(8), r"the floor -0\.1 must lie between 0"),
    "chance is NaN": (None, math.nan, "and chance is nan"),
    "the floor is NaN": (math.nan, math.log(8), "the floor nan must lie between 0"),
}
"""Floor, chance, and words of the message."""


@pytest.mark.parametrize("name", WRONG)
def test_wrong_levels_fail_the_check(name):
    floor, chance, words = WRONG[name]
    with pytest.raises(Failed, match=words):
        check_levels(with_levels(floor, chance))


@pytest.mark.parametrize(
    "dataset",
    [NoisySine(frequency=0.3), Adding(), FlipFlop(num_steps=20_000), MarkovChain(num_steps=20_000), CuedCopy()],
    ids=lambda dataset: type(dataset).__name__,
)  # fmt: skip
def test_the_check_takes_values_masks_columns_and_texts(dataset):
    note = check_levels(dataset).note
    assert note.startswith(f"floor {dataset.floor}, chance {dataset.chance:.4g}, on the data ")
    on_the_data = float(note.rpartition(" ")[2])
    assert on_the_data == pytest.approx(dataset.chance, rel=0.05)
    wrong = type("Wrong", (type(dataset),), {"chance": dataset.chance * 1.2})(**vars(dataset))
    with pytest.raises(Failed, match="a constant prediction has the loss"):
        check_levels(wrong)

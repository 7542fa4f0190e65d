"""`floor` and `chance` of the datasets are the losses of predictors that know the rule, or the frequencies alone."""

import itertools
import math

import numpy as np
import pytest

import seqjax
from seqjax import Pairs, Spec, Tokens
from seqjax.testing.compare import Failed
from seqjax.testing.dataset import check_levels
from seqjax_datasets import (
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


def an_bn(dataset):
    """n is uniform: after k a's, N - k of the N - k + 1 words that are left go on."""
    N, count, prediction = dataset.max_n, 0, None
    while True:
        token = yield prediction
        if token == 0:
            count, prediction = 0, [0.0, 1.0, 0.0]
        elif token == 1:
            count += 1
            more = (N - count) / (N - count + 1)
            prediction = [0.0, more, 1 - more]
        else:
            count -= 1
            prediction = [0.0, 0.0, 1.0] if count else [1.0, 0.0, 0.0]


def dyck(dataset):
    K, stack, prediction = dataset.kinds, [], None
    while True:
        token = yield prediction
        if token < K:
            stack.append(token)
        else:
            stack.pop()
        opens = 1.0 if not stack else 0.0 if len(stack) == dataset.max_depth else dataset.opening
        prediction = [opens / K] * K + [0.0] * K
        if stack:
            prediction[K + stack[-1]] = 1 - opens


def add(dataset):
    read, prediction = [], None
    while True:
        read.append((yield prediction))
        x_t1, x_t2 = (read[-1 - lag] if lag < len(read) else 0 for lag in (dataset.t1, dataset.t2))
        one = 0.5 + 0.5 * x_t1 - 0.25 * x_t2
        prediction = [1 - one, one]


def iid(dataset):
    while True:
        yield [1 - dataset.probability, dataset.probability]


def markov_chain(dataset):
    rows, prediction = dataset.transition_matrix.tolist(), None
    while True:
        token = yield prediction
        prediction = rows[token]


def copy(dataset):
    segment, prediction = [], None
    while True:
        token = yield prediction
        if token == 1:
            segment.clear()
        if token:
            segment.append(token)
        prediction = certain(0 if token else segment.pop(0), 6)


def cued_copy(dataset):
    data, prediction = [], None
    while True:
        token = yield prediction
        if token >= 2:
            data.append(token - 2)
        prediction = certain(data.pop(0), dataset.values) if token == 1 else None


def delayed_match(dataset):
    tokens, prediction = [], None
    while True:
        token = yield prediction
        if token:
            tokens.append(token)
        prediction = certain(int(tokens[0] == tokens[-1]), 2)


def flip_flop(dataset):
    held = np.zeros(dataset.channels)
    while True:
        pulses = yield held
        held = np.where(pulses == 0, held, pulses)


def adding(dataset):
    total = 0.0
    while True:
        number, mark = yield np.array([total])
        total += number * mark


def certain(token, size):
    return [float(each == token) for each in range(size)]


def load(dataset):
    """The pairs of a dataset, and the mask."""
    pairs = dataset.load()
    if isinstance(pairs, seqjax.Text):
        ids = np.frombuffer(pairs.text.encode(), np.uint8).astype(int) - ord("a")
        pairs = Pairs(ids[:-1], ids[1:])
    return pairs, np.ones(len(pairs), bool) if pairs.mask is None else pairs.mask


def read(dataset, predictor):
    """The predictions for all scored steps, and their targets. A predictor reads the inputs of a document in order."""
    pairs, mask = load(dataset)
    inputs, predictions = list(pairs.inputs), []
    for first, last in itertools.pairwise(pairs.bounds):
        model = predictor(dataset)
        next(model)
        predictions += [model.send(each) for each in inputs[first:last]]
    scored = np.array([each for each, is_scored in zip(predictions, mask, strict=True) if is_scored])
    return scored, pairs.targets[mask]


def losses_of(predictions, targets):
    """In nats of tokens, and squared errors of values."""
    if targets.ndim == 2:
        return ((predictions - targets) ** 2).mean(1)
    return -np.log(predictions[np.arange(len(targets)), targets])


def assert_mean(losses, level, slack=0.0, blocks=50):
    """The mean is within five standard errors, which the means of blocks give, since neighbours are dependent."""
    means = [block.mean() for block in np.array_split(losses, blocks)]
    allowed = 5 * np.std(means, ddof=1) / math.sqrt(blocks) + slack
    assert allowed <= 0.05 * level, "the test would find no wrong level"
    assert abs(losses.mean() - level) <= allowed + 1e-12, (losses.mean(), level, allowed)


ENTROPIES = {
    "an-bn": (AnBn(num_steps=100_000), an_bn),
    "an-bn, max_n = 3": (AnBn(num_steps=20_000, max_n=3, seed=2), an_bn),
    "an-bn, max_n = 2": (AnBn(num_steps=20_000, max_n=2), an_bn),
    "dyck": (Dyck(num_steps=40_000), dyck),
    "dyck, three kinds without depth": (Dyck(num_steps=5000, kinds=3, max_depth=1), dyck),
    "dyck, one kind": (Dyck(num_steps=40_000, kinds=1, max_depth=2), dyck),
    "dyck, rare openings": (Dyck(num_steps=40_000, kinds=3, max_depth=3, opening=0.3), dyck),
    "add": (Add(num_steps=100_000), add),
    "add, the same lag twice": (Add(num_steps=40_000, t1=3, t2=3), add),
    "add, no lag": (Add(num_steps=100_000, t1=0, t2=9, seed=1), add),
    "iid": (IID(num_steps=40_000), iid),
    "iid, rare ones": (IID(num_steps=100_000, probability=0.1), iid),
    "markov-chain": (MarkovChain(num_steps=100_000), markov_chain),
    "markov-chain, three states": (MarkovChain(num_steps=40_000, states=3, concentration=2.0), markov_chain),
}
"""Datasets whose floor is an entropy, and predictors that know the rule."""
SOLVED = {
    "an-bn, max_n = 1": (AnBn(num_steps=1000, max_n=1), an_bn),
    "dyck, nothing to choose": (Dyck(num_steps=1000, kinds=1, max_depth=1), dyck),
    "copy": (Copy(num_steps=3005), copy),
    "copy, several lengths": (Copy(num_steps=3005, min_length=1, max_length=7, seed=3), copy),
    "cued-copy": (CuedCopy(num_sequences=300), cued_copy),
    "cued-copy, no delay": (CuedCopy(num_sequences=300, length=4, values=2, delay=0), cued_copy),
    "delayed-match": (DelayedMatch(num_sequences=300), delayed_match),
    "delayed-match, no delay": (DelayedMatch(num_sequences=300, values=2, delay=0), delayed_match),
    "flip-flop": (FlipFlop(num_steps=3000), flip_flop),
    "flip-flop, one channel": (FlipFlop(num_steps=3000, channels=1, rate=0.02), flip_flop),
    "adding": (Adding(num_sequences=300), adding),
    "adding, a gap": (Adding(num_sequences=300, length=8, gap=6), adding),
}
"""Datasets whose floor is 0, and predictors that know the rule."""


@pytest.mark.parametrize("name", ENTROPIES)
def test_a_predictor_that_knows_the_rule_reaches_the_floor(name):
    dataset, predictor = ENTROPIES[name]
    assert_mean(losses_of(*read(dataset, predictor)), dataset.floor)
    assert 0 < dataset.floor <= dataset.chance


@pytest.mark.parametrize("name", SOLVED)
def test_a_predictor_that_knows_the_rule_makes_no_error(name):
    dataset, predictor = SOLVED[name]
    losses = losses_of(*read(dataset, predictor))
    assert len(losses) >= 300
    assert not losses.any()
    assert dataset.floor == 0


@pytest.mark.parametrize("max_n", [1, 2, 16])
def test_the_best_accuracy_of_an_bn(max_n):
    dataset = AnBn(num_steps=30_000, max_n=max_n)
    predictions, targets = read(dataset, an_bn)
    assert_mean((predictions.argmax(1) == targets).astype(float), dataset.best_accuracy)


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
    """A plain loop computes them: test_tasks.py."""
    assert dataset.floor == 0


@pytest.mark.parametrize("fields", [{}, {"noise": 0.5, "frequency": 0.3}, {"noise": 0.0}])
def test_the_floor_of_a_noisy_sine_is_the_error_of_the_sine(fields):
    dataset = NoisySine(num_steps=40_000, **fields)
    t = np.arange(1, 40_001)
    sine = np.sin((fields.get("frequency") or 0.01) * t)
    assert_mean((dataset.load().values[:, 0] - sine) ** 2, dataset.floor)


CONSTANT = {
    **{name: dataset for name, (dataset, _) in (ENTROPIES | SOLVED).items() if not dataset.of_values},
    "copy": Copy(num_steps=20_000),
    "copy, several lengths": Copy(num_steps=20_000, min_length=1, max_length=7),
    "cued-copy": CuedCopy(num_sequences=4000),
    "delayed-match": DelayedMatch(num_sequences=4000),
    "digits": Digits(),
}
"""Datasets of tokens."""


@pytest.mark.parametrize("name", CONSTANT)
def test_a_predictor_that_knows_the_frequencies_has_the_loss_chance(name):
    """That K frequencies are those of the data themselves lowers the loss by about K / 2n."""
    dataset = CONSTANT[name]
    pairs, mask = load(dataset)
    targets = pairs.targets[mask]
    K, n = targets.max() + 1, len(targets)
    frequencies = [np.mean(targets == token) for token in range(K)]
    assert_mean(losses_of(np.tile(frequencies, (n, 1)), targets), dataset.chance, slack=2 * K / n)


OF_SEEDS = {
    "adding": (Adding, {"num_sequences": 200, "length": 4}, 100),
    "adding, a gap": (Adding, {"num_sequences": 200, "length": 6, "gap": 4}, 100),
    "flip-flop": (FlipFlop, {"num_steps": 30}, 600),
    "flip-flop, one channel": (FlipFlop, {"num_steps": 10, "channels": 1, "rate": 0.3}, 1000),
    "flip-flop, a pulse at each step": (FlipFlop, {"num_steps": 10, "rate": 1.0}, 300),
    "noisy-sine": (NoisySine, {"num_steps": 100, "frequency": 0.02}, 300),
    "noisy-sine, much noise": (NoisySine, {"num_steps": 50, "noise": 2.0, "frequency": 0.3}, 1000),
}
"""Datasets of values, whose mean over many seeds is compared, since one stream has too few independent steps."""


@pytest.mark.parametrize("name", OF_SEEDS)
def test_the_best_constant_has_the_squared_error_chance(name):
    cls, fields, seeds = OF_SEEDS[name]
    loaded = [cls(**fields, seed=seed).load() for seed in range(seeds)]
    targets = np.array([data.values if cls is NoisySine else data.targets[load(data)[1]] for data in loaded])
    losses = ((targets - targets.mean((0, 1))) ** 2).mean((1, 2))
    assert_mean(losses, cls(**fields).chance)


@pytest.mark.parametrize(
    "dataset", [Henon(num_series=3), Lorenz(num_steps=500), MackeyGlass(num_steps=500, delay=5), NARMA(order=3)],
    ids=lambda dataset: type(dataset).__name__,
)  # fmt: skip
def test_a_normalised_series_has_the_variance_chance(dataset):
    data = dataset.load()
    targets = data.targets if isinstance(data, Pairs) else data.values
    for first, last in itertools.pairwise(data.bounds):
        assert targets[first:last].mean() == pytest.approx(0, abs=1e-12)
        assert targets[first:last].var() == pytest.approx(dataset.chance, abs=1e-12)


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

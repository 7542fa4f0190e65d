import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Error, Problem, Spec, Tokens, Values
from seqjax.data import Stream
from seqjax.data.stream import next_stream
from seqjax.datasets import TimeMachine
from seqjax.models import NGram, unroll_model
from seqjax.testing.quick_jit import quick_jit
from seqjax.tokenizers import Char
from seqjax.training.evaluating import evaluate

V = 4
DOCUMENTS = [[1, 2, 1, 2, 0, 0, 1, 2, 2, 1], [0, 2], [2, 0, 1, 1, 2, 0, 0, 0, 1, 2, 0, 2, 1], [1, 1, 1, 0]]
"""Id 3 never occurs, like `<unk>` in the text of a vocabulary."""
SMOOTHINGS = ["laplace", "additive", "witten-bell", "kneser-ney", "none"]
EPSILONS = (0.5, 2.0, 0.0, 1.5)


def stream_of(documents):
    ids = np.concatenate([np.array(document, np.int32) for document in documents])
    return next_stream(ids, np.cumsum([0, *map(len, documents)]))


def model_of(order, smoothing):
    """With several ε, one of which is 0."""
    epsilon = {"epsilon": EPSILONS[:order]} if smoothing in ("laplace", "additive") else {}
    return NGram(order=order, smoothing=smoothing, discount=0.7, **epsilon)


class ByHand:
    """Probabilities from dicts, context by context."""

    def __init__(self, model, documents, size):
        self.model, self.size = model, size
        self.n = collections.defaultdict(collections.Counter)
        for document in documents:
            for t, x in enumerate(document):
                for k in range(min(t, model.order - 1) + 1):
                    self.n[tuple(document[t - k : t])][x] += 1
        raw, self.single = dict(self.n), self.n[()]
        if model.smoothing == "kneser-ney":
            for c in [c for c in raw if len(c) < model.order - 1]:
                before = {x: sum(raw.get((v, *c), {}).get(x, 0) > 0 for v in range(size)) for x in raw[c]}
                self.n[c] = collections.Counter({x: count for x, count in before.items() if count})

    def probability(self, c, x):
        c, m = tuple(c[max(0, len(c) - self.model.order + 1) :]), self.model
        n, total = self.n.get(c, {}).get(x, 0), sum(self.n.get(c, {}).values())
        distinct = len(self.n.get(c, {}))
        shorter = functools.partial(self.probability, c[1:], x) if c else lambda: 1 / self.size
        epsilon = m.epsilon[len(c)] if isinstance(m.epsilon, tuple) else m.epsilon
        single = functools.partial(self.probability, (), x) if c else shorter
        if total == 0 and (m.smoothing not in ("laplace", "additive") or epsilon == 0):
            return shorter()
        return {
            "laplace": lambda: (n + epsilon * single()) / (total + epsilon),
            "additive": lambda: (n + epsilon) / (total + epsilon * self.size),
            "witten-bell": lambda: (n + distinct * shorter()) / (total + distinct),
            "kneser-ney": lambda: (max(n - m.discount, 0) + m.discount * distinct * shorter()) / total,
            "none": lambda: n / total,
        }[m.smoothing]()

    def __call__(self, c):
        return np.array([self.probability(c, x) for x in range(self.size)])


def contexts(length):
    return itertools.chain.from_iterable(itertools.product(range(V), repeat=k) for k in range(length + 1))


def counted(model, documents=DOCUMENTS):
    return model.count(stream_of(documents), Spec(Tokens(V)))


QUICK = {(1, "witten-bell"), *((3, smoothing) for smoothing in SMOOTHINGS)}


@pytest.mark.parametrize(
    ("order", "smoothing"),
    [
        pytest.param(*each, marks=[pytest.mark.slow] * (each not in QUICK))
        for each in itertools.product(range(1, 5), SMOOTHINGS)
    ],
)
def test_probabilities_are_the_equations_and_sum_to_one(order, smoothing):
    """For seen and unseen contexts, shorter and longer than those of the model, and with other numbers of tokens."""
    other, model = np.array([2, 0, 3, 1]), model_of(order, smoothing)
    params, by_hand = counted(model), ByHand(model, DOCUMENTS, V)
    renamed = counted(model, [other[document] for document in DOCUMENTS])
    for c in contexts(order):
        p = model.probabilities(params, c)
        np.testing.assert_allclose(p, by_hand(c), rtol=1e-12, atol=1e-15)
        assert abs(p.sum() - 1) < 1e-12
        assert p.dtype == np.float64
        if len(c) < 2:
            np.testing.assert_allclose(model.probabilities(renamed, other[list(c)])[other], p, rtol=1e-12)


@pytest.mark.parametrize(
    ("order", "smoothing"),
    [
        (3, "witten-bell"),
        *(pytest.param(n, smoothing, marks=pytest.mark.slow) for n in (1, 4) for smoothing in SMOOTHINGS),
    ],
)
def test_steps_give_the_logarithms_of_the_probabilities(x64, order, smoothing):
    xs = np.random.default_rng(0).integers(0, V, (12, 8)).astype(np.int32)
    xs[:10, 0] = DOCUMENTS[0]
    xs[0, 1:5] = range(V)
    model = model_of(order, smoothing)
    params = counted(model)

    @quick_jit
    def run(params, xs):
        state = model.init_state(params, Spec(Tokens(V)))
        return unroll_model(model, params, jax.tree.map(lambda a: jnp.broadcast_to(a, (8, *a.shape)), state), xs)

    new, logits = jax.tree.map(np.asarray, run(params, xs))
    assert logits.dtype == np.float64
    expected = [[model.probabilities(params, xs[: t + 1, b]) for b in range(8)] for t in range(12)]
    np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-12, atol=1e-15)
    assert (np.isneginf(logits) == (np.array(expected) == 0)).all()
    assert (new.known == order - 1).all()
    np.testing.assert_array_equal(new.last, xs[13 - order :].T)


@pytest.mark.parametrize(
    "smoothing",
    ["laplace", "kneser-ney"] + [pytest.param(s, marks=pytest.mark.slow) for s in ("additive", "witten-bell", "none")],
)
def test_documents_shorter_than_the_model(smoothing):
    """No context of three tokens occurs. There is one ε."""
    model, documents = NGram(order=4, smoothing=smoothing), [[1, 2], [2, 2]]
    params, by_hand = counted(model, documents), ByHand(model, documents, V)
    for t in range(4):
        context = [1, 2, 2, 3][: t + 1]
        np.testing.assert_allclose(model.probabilities(params, context), by_hand(context), rtol=1e-12, atol=1e-15)


@pytest.fixture(scope="module")
def characters(time_machine_file):
    text = TimeMachine(str(time_machine_file)).load()
    codec = Char().fit(text[:10_000])
    return codec, codec.encode(text[:20_000].text)


MEMORISED = [17.415, 9.865, 5.176, 2.697, 1.737, 1.372, 1.198, 1.111, 1.069, 1.047, 1.034]
"""Perplexity of the first 10,000 characters under their own frequencies given the last k characters, over all
characters that have k before them. 1.047 is 1.04646, rounded twice."""


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 4, 9])
def test_memorised_characters(characters, k):
    """The frequencies of the longest contexts; targets with fewer than k characters before them are masked."""
    codec, ids = characters
    stream, model, spec = stream_of([ids[:10_000]]), NGram(order=k + 1, smoothing="none"), Spec(codec.spec)
    params = model.count(stream, spec)
    found = evaluate(Problem.of(model, spec), params, stream._replace(mask=np.arange(9_999) >= k - 1))
    assert found["perplexity"] == pytest.approx(MEMORISED[k], abs=5.5e-4)


def test_held_out_characters(characters):
    """The 5,000 characters after the counted ones, and the next 5,000, each predicted from those before it."""
    codec, ids = characters
    model = NGram(order=6, smoothing="kneser-ney", discount=0.9)
    problem, before = Problem.of(model, Spec(codec.spec)), 6
    params = model.count(stream_of([ids[:10_000]]), problem.spec)
    for first, value in zip((10_000, 15_000), (5.12, 6.64), strict=True):
        stream = stream_of([ids[first - before : first + 5_000]])
        found = evaluate(problem, params, stream._replace(mask=np.arange(len(stream.inputs)) >= before - 1))
        assert found["tokens"] == 5_000
        assert round(found["perplexity"], 2) == value


def test_fields():
    assert NGram(order=2, epsilon=[1, 0.5]).epsilon == (1.0, 0.5)
    assert seqjax.create("model", "ngram", smoothing="kneser-ney", discount=0.75) == NGram(4, "kneser-ney", 1.0, 0.75)
    with pytest.raises(Error, match=r"(?s)order = 0.*smoothing = 'good'.*epsilon = -1.*discount = 1"):
        NGram(order=0, smoothing="good", epsilon=-1.0, discount=1.0)
    with pytest.raises(Error, match=r"epsilon = \(1.0, 2.0\) has 2 numbers, and order = 3"):
        NGram(order=3, epsilon=(1.0, 2.0))


def test_streams_that_are_not_texts_are_refused():
    model, text, spec = NGram(order=2), stream_of(DOCUMENTS), Spec(Tokens(V))
    for other in (Spec(Values(1)), Spec(Tokens(4), Tokens(3))):
        with pytest.raises(Error, match="predicts the next of the tokens that it reads"):
            model.count(text, other)
        with pytest.raises(Error, match="predicts the next of the tokens that it reads"):
            model.init_state({}, other)
    for stream in (text._replace(targets=text.inputs), text._replace(mask=np.arange(len(text.inputs)) > 0)):
        with pytest.raises(Error, match="each target must be the next input"):
            model.count(stream, spec)
    with pytest.raises(Error, match="this text has 0"):
        model.count(stream_of([[1], [2]]), spec)
    with pytest.raises(Error, match="from 0 to 1, for"):
        model.count(text, Spec(Tokens(2)))
    with pytest.raises(Error, match=r"context: int\[k\], ids from 0 to 3"):
        model.probabilities(model.count(text, spec), [4])
    for context in ([0.5], [True], "ab", None, [[1]]):
        with pytest.raises(Error, match=r"context: int\[k\], ids from 0 to 3"):
            model.probabilities(model.count(text, spec), context)
    masked_none = Stream(text.inputs, text.targets, text.bounds, np.ones(len(text.inputs), bool))
    jax.tree.map(np.testing.assert_array_equal, model.count(masked_none, spec), model.count(text, spec))

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Experiment, Model, Pairs, Problem, Run, Series, Spec, Text, Tokens, Values
from seqjax.data import Stream
from seqjax.data.preparing import make_stream
from seqjax.training.evaluating import WINDOW, evaluate, perplexity
from seqjax_models import GRU, RNN
from seqjax_tokenizers import BPE, Char, Standardize, Word


class Lags(NamedTuple):
    """The last two inputs; -1 stands for inputs before the first one."""

    ids: jax.Array


@dataclass(frozen=True)
class Sum(Model):
    """Known logits: `w` times the sum of the last three inputs, so that the state matters."""

    warmup: ClassVar[int] = 2

    def init(self, key, spec):
        return {"w": jnp.linspace(-1, 1, spec.inputs.size)}

    def init_state(self, params, spec, key=None):
        return Lags(jnp.full(2, -1, jnp.int32))

    def step(self, params, state, x):
        last = jnp.concatenate([state.ids, x[None]])
        return Lags(last[1:]), params["w"] * last.sum().astype(params["w"].dtype)


def loss_by_hand(problem, params, stream):
    """The mean loss over all targets, step by step, from the initial state in each document."""
    step = jax.jit(problem.step)
    losses = []
    for first, last in zip(stream.bounds, stream.bounds[1:], strict=False):
        state = problem.init_state(params)
        for t in range(first, last):
            state, loss = step(params, state, (stream.inputs[t], stream.targets[t]))
            if t - first >= problem.warmup and (stream.mask is None or stream.mask[t]):
                losses.append(float(loss))
    return math.fsum(losses) / len(losses), len(losses)


def tokens(size, lengths, masked=False):
    rng, n = np.random.default_rng(0), sum(lengths)
    ids = rng.integers(0, size, n + 1).astype(np.int32)
    return Stream(ids[:-1], ids[1:], np.cumsum([0, *lengths]), rng.random(n) < 0.7 if masked else None)


@pytest.mark.parametrize("model", [RNN(hidden=3), Sum()], ids=["rnn", "warmup"])
@pytest.mark.parametrize(
    ("lengths", "masked"),
    [
        pytest.param((2 * WINDOW + 88,), False, marks=pytest.mark.slow),
        pytest.param((WINDOW,), True, marks=pytest.mark.slow),
        ((300, 1, 0, WINDOW, 3), False),
        ((0, 40, WINDOW + 1), True),
    ],
)
def test_evaluation_equals_a_loop_over_all_steps(x64, model, lengths, masked):
    problem = Problem.of(model, Spec(Tokens(5)))
    params = jax.tree.map(lambda a: 50 * a, model.init(jax.random.key(0), problem.spec))
    stream = tokens(5, lengths, masked)
    loss, count = loss_by_hand(problem, params, stream)
    row = evaluate(problem, params, stream)
    assert row["tokens"] == count
    assert row["loss"] == pytest.approx(loss, rel=1e-12)
    assert row["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)


def test_the_error_of_values_has_no_perplexity(x64):
    spec = Spec(Values(2))
    problem = Problem.of(RNN(hidden=3), spec)
    params = jax.tree.map(lambda a: 50 * a, problem.model.init(jax.random.key(0), spec))
    values = np.random.default_rng(0).normal(size=(41, 2))
    stream = Stream(values[:-1], values[1:], np.array([0, 15, 40]))
    loss, count = loss_by_hand(problem, params, stream)
    assert evaluate(problem, params, stream) == {"loss": pytest.approx(loss, rel=1e-12), "tokens": count}


def zeros(size):
    problem = Problem.of(RNN(hidden=2), Spec(Tokens(size)))
    return problem, jax.tree.map(jnp.zeros_like, problem.model.init(jax.random.key(0), problem.spec))


@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow), 28])
def test_uniform_logits_have_the_perplexity_of_the_vocabulary(size):
    row = evaluate(*zeros(size), tokens(size, (300,)))
    assert row["perplexity"] == pytest.approx(size, rel=1e-5)
    assert row["tokens"] == 300


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_an_empty_stream_has_no_loss(lengths):
    row = evaluate(*zeros(3), tokens(3, lengths))
    assert row["tokens"] == 0
    assert math.isnan(row["loss"])
    assert math.isnan(row["perplexity"])


def test_a_problem_without_an_initial_state_is_an_error():
    problem = Problem(lambda params, state, x: (state, params * x[0]))
    with pytest.raises(Error, match=r"Problem\(step, init_state\)"):
        evaluate(problem, jnp.ones(()), tokens(3, (4,)))


def test_a_step_that_swaps_loss_and_state_is_an_error():
    problem = Problem(lambda params, state, x: (params * state.sum(), state), lambda params, key=None: jnp.zeros(2))
    with pytest.raises(Error, match=r"Return \(state, loss\)|a step's loss must be one number|comes out as"):
        evaluate(problem, jnp.ones(()), tokens(3, (4,)))


def test_parameters_of_another_model_are_named():
    spec = Spec(Tokens(5))
    params = RNN(hidden=4).init(jax.random.key(0), spec)
    with pytest.raises(Error, match="the parameters do not fit the model gru hidden=4 with Tokens") as caught:
        evaluate(GRU(hidden=4).problem(spec), params, tokens(5, [9]))
    assert caught.value.problems[0] == "layer_0/W_hh: it has float32[4, 4], and needs float32[4, 12]"


def test_a_stream_within_the_warmup_has_no_loss():
    problem = Problem.of(Sum(), Spec(Tokens(3)))
    row = evaluate(problem, problem.model.init(jax.random.key(0), problem.spec), tokens(3, (2, 1, 2)))
    assert row["tokens"] == 0
    assert math.isnan(row["loss"])


def test_perplexity_is_1_if_certain_and_infinite_if_impossible():
    assert perplexity(0.0) == 1
    assert perplexity(math.log(28)) == pytest.approx(28)
    assert perplexity(1e5) == perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))
    problem, params = zeros(3)
    params["b_q"] = jnp.array([0.0, -jnp.inf, 0.0])
    assert evaluate(problem, params, tokens(3, (50,)))["perplexity"] == math.inf
    params["b_q"] = jnp.array([0.0, 0.0, 1e4])
    certain = Stream(np.zeros(9, np.int32), np.full(9, 2, np.int32), np.array([0, 9]))
    assert evaluate(problem, params, certain)["perplexity"] == 1


DOCUMENTS = ["the cat sat on the mat", "", "a", "on the mat sat the cat, und für Élise the cat"]
BOOK = Text("".join(DOCUMENTS), bounds=np.cumsum([0, *map(len, DOCUMENTS)]))
VALUES = np.random.default_rng(0).normal(size=(90, 2))


def untrained(dataset, tokenizer=None, **fields):
    """A run with initial parameters, on a dataset that is not split."""
    experiment = Experiment(dataset=dataset, tokenizer=tokenizer, model=RNN(hidden=4, initializer="glorot"), **fields)
    codec = tokenizer and tokenizer.fit(dataset)
    spec = (
        dataset.spec if isinstance(dataset, Pairs) else Spec(codec.spec if codec else Values(dataset.values.shape[1]))
    )
    return Run(experiment, codec, spec, experiment.model.init(jax.random.key(0), spec))


def nats_by_hand(run, ids):
    """The cross-entropy of each id except the first, given the ids before it."""
    problem = run.problem
    state, found = problem.init_state(run.params), []
    for x, y in itertools.pairwise(ids):
        state, loss = problem.step(run.params, state, (jnp.asarray(x), jnp.asarray(y)))
        found.append(float(loss))
    return found


def test_a_text_that_is_not_decoded_exactly_has_no_bits_per_character():
    """Words lose the white space, and unknown characters are lost, so that characters cannot be counted."""
    assert "bits_per_character" not in untrained(BOOK, Word()).evaluate(BOOK)
    run = untrained(BOOK, Char())
    with pytest.warns(UserWarning, match="of the text is unknown"):
        assert "bits_per_character" not in run.evaluate(Text("☂" + DOCUMENTS[0]))


def test_a_character_that_is_predicted_in_part_counts():
    """The first of three bytes is given, and the other two determine the character."""
    run = untrained(BOOK, BPE(vocab_size=256))
    nats = run.evaluate(Text("日"))
    assert nats["tokens"] == 2
    assert nats["bits_per_character"] == pytest.approx(2 * nats["loss"] / math.log(2))


@pytest.mark.parametrize("tokenizer", [Char(), BPE(vocab_size=275)], ids=["char", "bpe"])
def test_bits_per_character_count_the_characters_that_are_predicted(tokenizer):
    """The sum of bits over the number of characters, without those of each document's first token."""
    run = untrained(BOOK, tokenizer)
    nats, characters = [], 0
    for text in DOCUMENTS:
        ids = run.codec.encode(text)
        nats += nats_by_hand(run, ids)
        characters += len(text) - len(run.codec.decode(ids[:1]))
    row = run.evaluate(BOOK)
    assert row["tokens"] == len(nats)
    assert row["loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert row["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-5)
    assert row["bits_per_character"] == pytest.approx(sum(nats) / math.log(2) / characters, rel=1e-5)
    if isinstance(tokenizer, Char):
        assert characters == len(nats)
    else:
        assert characters > 1.5 * len(nats), "tokens of several characters, or the test says little"


def test_uniform_logits_need_the_logarithm_of_the_vocabulary_in_bits():
    run = untrained(Text("abcdefg"), Char())
    run.params = jax.tree.map(jnp.zeros_like, run.params)
    assert run.evaluate(Text("gfedcba" * 20))["bits_per_character"] == pytest.approx(3, rel=1e-6)


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_without_targets_has_no_bits(text):
    row = untrained(BOOK, Char()).evaluate(Text(text))
    assert row["tokens"] == 0
    assert "bits_per_character" not in row


RUNS = {
    "text": untrained(BOOK, Char()),
    "series": untrained(Series(VALUES)),
    "scaled": untrained(Series(VALUES), Standardize()),
    "ids": untrained(Pairs([0, 1, 2, 3, 4], [0, 1, 2, 0, 1])),
    "reals": untrained(Pairs(VALUES, VALUES[:, :1])),
}
GOOD = {
    "text": [Text("abc"), BOOK],
    "series": [Series(VALUES[:20]), Series(VALUES, bounds=[0, 30, 90])],
    "scaled": [Series(VALUES[:20])],
    "ids": [Pairs([0, 1], [1, 1]), Pairs([4, 0, 0], [2, 0, 1], [True, False, True]), RUNS["ids"].data],
    "reals": [Pairs(VALUES[:7], VALUES[:7, 1]), Pairs(VALUES, VALUES[:, :1], np.arange(90) % 3 == 0)],
}
BAD = {
    "text": [Series(VALUES), Pairs([0, 1], [1, 0])],
    "series": [Text("abc"), Series(VALUES[:, 0]), Pairs(VALUES, VALUES[:, 0])],
    "scaled": [Text("abc"), Series(VALUES[:, 0])],
    "ids": [Text("abc"), Series(VALUES), Pairs([5, 1], [1, 0]), Pairs([0, 1], [1, 3]), Pairs(VALUES, [0] * 90)],
    "reals": [Series(VALUES), Pairs(VALUES, VALUES), Pairs(VALUES[:, 0], VALUES[:, 0]), Pairs([0, 1], [0.0, 1.0])],
}


@pytest.mark.parametrize("name", RUNS)
def test_own_data_of_the_same_kind_equal_a_loop(name):
    run = RUNS[name]
    for data in GOOD[name]:
        expected, count = loss_by_hand(run.problem, run.params, to_float32(make_stream(data, run.codec, run.spec)))
        row = run.evaluate(data)
        assert row["tokens"] == count
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def to_float32(stream):
    sides = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in map(np.asarray, stream[:2])]
    return Stream(*sides, *stream[2:])


@pytest.mark.parametrize("name", RUNS)
def test_own_data_of_another_kind_are_an_error(name):
    run = RUNS[name]
    for data in BAD[name]:
        with pytest.raises(Error, match=f"it cannot read this {type(data).__name__}") as caught:
            run.evaluate(data)
        assert caught.value.exit_code == 2
        assert str(run.spec.inputs) in str(caught.value)


def test_a_scaled_series_has_its_loss_in_the_units_that_the_model_reads():
    run, plain = RUNS["scaled"], RUNS["series"]
    x = VALUES[:20]
    assert run.evaluate(Series(x))["loss"] == pytest.approx(
        Run(plain.experiment, None, plain.spec, run.params).evaluate(Series(run.codec.encode(x)))["loss"], rel=1e-6
    )


def test_the_parts_are_evaluated_by_name():
    """The rest follows the held-out part."""
    text = Text(BOOK.text)
    run = untrained(text, Char(), train=20, heldout=15)
    run._prepared = None
    run.codec = Char().fit(text[:20])
    run.spec = Spec(run.codec.spec)
    run.params = run.experiment.model.init(jax.random.key(0), run.spec)
    for part, (first, last) in {"train": (0, 20), "heldout": (20, 35), "rest": (35, len(text))}.items():
        assert run.evaluate(part) == run.evaluate(text[first:last])
    with pytest.raises(Error, match="no part 'test'; choose one of train, heldout, rest"):
        run.evaluate("test")

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.documents import is_scored, scan_documents
from support.drawn import drawn_params

from seqjax import Error, Experiment, Model, Pairs, Problem, Run, Series, Spec, Text, Tokens, Values
from seqjax.data import Stream
from seqjax.data.preparing import make_stream
from seqjax.models import GRU, RNN
from seqjax.tokenizers import BPE, Char, Standardize, Word
from seqjax.training.evaluating import WINDOW, evaluate, perplexity, predicted_characters


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
    """The mean loss over all targets in one scan, and their number."""
    params = jax.device_put(params)
    step = lambda state, x: problem.step(params, state, x)
    losses = scan_documents(step, problem.init_state(params), (stream.inputs, stream.targets), stream.bounds)
    counts = is_scored(stream, problem.warmup)
    return np.mean(losses, where=counts), counts.sum()


def tokens(size, lengths, masked=False):
    rng, n = np.random.default_rng(0), sum(lengths)
    ids = rng.integers(0, size, n + 1).astype(np.int32)
    return Stream(ids[:-1], ids[1:], np.cumsum([0, *lengths]), rng.random(n) < 0.7 if masked else None)


LONG, SHORT, MANY = (300, 1, 0, WINDOW, 3, 40, WINDOW + 1, 2 * WINDOW + 88), (3, 1, 0, 40, 5), (2, 7, 0, 1, 5) * 20


@pytest.mark.parametrize(
    ("model", "masked", "lengths"),
    [
        pytest.param(RNN(hidden=3), True, LONG, id="masked-long"),
        pytest.param(RNN(hidden=3), True, SHORT, id="masked-short", marks=pytest.mark.slow),
        pytest.param(RNN(hidden=3), True, MANY, id="masked-many", marks=pytest.mark.slow),
        pytest.param(Sum(), False, LONG, id="warmup-long"),
        pytest.param(Sum(), False, SHORT, id="warmup-short"),
        pytest.param(Sum(), False, MANY, id="warmup-many"),
    ],
)
def test_evaluation_equals_a_scan_of_the_documents(x64, model, masked, lengths):
    """Of documents that are empty, fill a window or are longer than two, short ones, and more than there are rows."""
    problem = Problem.of(model, Spec(Tokens(5)))
    params = drawn_params(model, problem.spec)
    stream = tokens(5, lengths, masked)
    loss, count = loss_by_hand(problem, params, stream)
    row = evaluate(problem, params, stream)
    assert row["tokens"] == count
    assert row["loss"] == pytest.approx(loss, rel=1e-12)
    assert row["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)


def zeros(size):
    problem = Problem.of(RNN(hidden=2), Spec(Tokens(size)))
    return problem, drawn_params(problem.model, problem.spec, scale=0)


def test_where_nothing_is_scored_there_is_no_loss():
    """In streams that are empty, or end within the warm-up. A vocabulary of one token has a loss of 0."""
    warm = Problem.of(Sum(), Spec(Tokens(3)))
    late = warm, drawn_params(warm.model, warm.spec)
    for given, lengths in ((zeros(3), ()), (zeros(3), (0, 0)), (late, (2, 1, 2))):
        row = evaluate(*given, tokens(3, lengths))
        assert row["tokens"] == 0
        assert math.isnan(row["loss"])
        assert math.isnan(row["perplexity"])
    assert evaluate(*zeros(1), tokens(1, (300,))) == {"loss": 0, "tokens": 300, "perplexity": 1}


def test_a_problem_without_an_initial_state_is_an_error():
    problem = Problem(lambda params, state, x: (state, params * x[0]))
    with pytest.raises(Error, match=r"Problem\(step, init_state\)"):
        evaluate(problem, np.float32(1), tokens(3, (4,)))


def test_a_step_that_swaps_loss_and_state_is_an_error():
    problem = Problem(lambda params, state, x: (params * state.sum(), state), lambda params, key=None: jnp.zeros(2))
    with pytest.raises(Error, match=r"Return \(state, loss\)|a step's loss must be one number|comes out as"):
        evaluate(problem, np.float32(1), tokens(3, (4,)))


def test_parameters_of_another_model_are_named():
    spec = Spec(Tokens(5))
    params = drawn_params(RNN(hidden=4), spec)
    with pytest.raises(Error, match="the parameters do not fit the model gru hidden=4 with Tokens") as caught:
        evaluate(GRU(hidden=4).problem(spec), params, tokens(5, [9]))
    assert caught.value.problems[0] == "layer_0/W_hh: it has float32[4, 4], and needs float32[4, 12]"


def test_perplexity_is_1_if_certain_and_infinite_if_impossible():
    assert perplexity(0.0) == 1
    assert perplexity(math.log(28)) == pytest.approx(28)
    assert perplexity(1e5) == perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))
    problem, params = zeros(3)
    params["b_q"] = np.array([0, -np.inf, 0], np.float32)
    assert evaluate(problem, params, tokens(3, (50,)))["perplexity"] == math.inf


DOCUMENTS = ["the cat sat on the mat", "", "a", "on the mat sat the cat, und für Élise the cat"]
BOOK = Text("".join(DOCUMENTS), bounds=np.cumsum([0, *map(len, DOCUMENTS)]))
VALUES = np.random.default_rng(0).normal(size=(90, 2))


def untrained(dataset, tokenizer=None, **fields):
    """A run with drawn parameters, on a dataset that is not split."""
    experiment = Experiment(dataset=dataset, tokenizer=tokenizer, model=RNN(hidden=4), **fields)
    codec = tokenizer and tokenizer.fit(dataset)
    spec = (
        dataset.spec if isinstance(dataset, Pairs) else Spec(codec.spec if codec else Values(dataset.values.shape[1]))
    )
    return Run(experiment, codec, spec, drawn_params(experiment.model, spec))


@functools.cache
def runs():
    return {
        "text": untrained(BOOK, Char()),
        "series": untrained(Series(VALUES)),
        "scaled": untrained(Series(VALUES), Standardize()),
        "ids": untrained(Pairs([0, 1, 2, 3, 4], [0, 1, 2, 0, 1])),
        "reals": untrained(Pairs(VALUES, VALUES[:, :1])),
    }


def test_characters_are_counted_where_tokens_are_decoded_exactly():
    """Words lose the white space, and unknown characters are lost. Of 日, the first of three bytes is given."""
    count = lambda tokenizer, text, fitted=BOOK: predicted_characters(tokenizer.fit(fitted), text)
    assert count(Word(), BOOK) == count(Char(), Text("☂" + DOCUMENTS[0])) == 0
    assert count(Char(), BOOK) == sum(max(0, len(document) - 1) for document in DOCUMENTS)
    assert count(BPE(vocab_size=256), Text("日")) == 1


def test_bits_per_character_count_the_characters_that_are_predicted():
    """The sum of bits over the number of characters, without those of each document's first token."""
    run = untrained(BOOK, BPE(vocab_size=275))
    loss, count = loss_by_hand(run.problem, run.params, make_stream(BOOK, run.codec, run.spec))
    characters = sum(len(text) - len(run.codec.decode(run.codec.encode(text)[:1])) for text in DOCUMENTS)
    assert characters > 1.5 * count, "tokens of several characters, or the test says little"
    row = run.evaluate(BOOK)
    assert row["tokens"] == count
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    assert row["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert row["bits_per_character"] == pytest.approx(loss * count / math.log(2) / characters, rel=1e-5)
    with pytest.warns(UserWarning, match="is unknown"):
        assert "bits_per_character" not in untrained(BOOK, Char()).evaluate(Text("☂" * 9 + DOCUMENTS[0]))


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_without_targets_has_no_bits(text):
    row = runs()["text"].evaluate(Text(text))
    assert row["tokens"] == 0
    assert "bits_per_character" not in row


GOOD = {
    "series": Series(VALUES, bounds=[0, 30, 90]),
    "scaled": Series(VALUES[:20]),
    "ids": Pairs([4, 0, 0], [2, 0, 1], [True, False, True]),
    "reals": Pairs(VALUES, VALUES[:, :1], np.arange(90) % 3 == 0),
}
BAD = {
    "text": [Series(VALUES), Pairs([0, 1], [1, 0])],
    "series": [Text("abc"), Series(VALUES[:, 0]), Pairs(VALUES, VALUES[:, 0])],
    "scaled": [Text("abc"), Series(VALUES[:, 0])],
    "ids": [Text("abc"), Series(VALUES), Pairs([5, 1], [1, 0]), Pairs([0, 1], [1, 3]), Pairs(VALUES, [0] * 90)],
    "reals": [Series(VALUES), Pairs(VALUES, VALUES), Pairs(VALUES[:, 0], VALUES[:, 0]), Pairs([0, 1], [0.0, 1.0])],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "series")) for name in GOOD])
def test_own_data_of_the_same_kind_are_evaluated(name):
    run, data = runs()[name], GOOD[name]
    expected, count = loss_by_hand(run.problem, run.params, to_float32(make_stream(data, run.codec, run.spec)))
    row = run.evaluate(data)
    assert row["tokens"] == count
    assert row["loss"] == pytest.approx(expected, rel=1e-5)
    assert ("perplexity" in row) == isinstance(run.spec.targets, Tokens)


def to_float32(stream):
    sides = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in map(np.asarray, stream[:2])]
    return Stream(*sides, *stream[2:])


@pytest.mark.parametrize("name", BAD)
def test_own_data_of_another_kind_are_an_error(name):
    run = runs()[name]
    for data in BAD[name]:
        with pytest.raises(Error, match=f"it cannot read this {type(data).__name__}") as caught:
            run.evaluate(data)
        assert caught.value.exit_code == 2
        assert str(run.spec.inputs) in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*is unknown to the vocabulary")
def test_the_parts_are_evaluated_by_name():
    """The rest follows the held-out part."""
    text = Text(BOOK.text[:60])
    run = untrained(text, Char(), train=20, heldout=20)
    run.codec = Char().fit(text[:20])
    run.spec = Spec(run.codec.spec)
    run.params = drawn_params(run.experiment.model, run.spec)
    for part, first in {"train": 0, "heldout": 20, "rest": 40}.items():
        assert run.evaluate(part) == run.evaluate(text[first : first + 20])
    with pytest.raises(Error, match="no part 'test'; choose one of train, heldout, rest"):
        run.evaluate("test")

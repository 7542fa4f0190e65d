import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Pairs, Plan, Series, Spec, Text, Tokenizer, Tokens, Values
from seqjax.data import Stream
from seqjax.data.prepare import encode, prepare
from seqjax.data.sampler import check_plan, cut_windows, in_order
from seqjax.data.split import split
from seqjax.data.stream import check_stream, next_stream
from seqjax.data.windows import past_warmup, scored_steps, window
from seqjax_samplers import Random
from seqjax_tokenizers import Char, Standardize


@dataclass(frozen=True)
class Letters(Tokenizer):
    """Drops the spaces, so that a token is not a character."""

    def split(self, text):
        return text.replace(" ", "")

    def join(self, tokens):
        return "".join(tokens)


def documents(text, bounds):
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


def ramp(lengths):
    """Bounds of documents of these lengths."""
    return np.cumsum([0, *lengths], dtype=np.int64)


@pytest.mark.parametrize(
    ("train", "heldout", "sizes"),
    [
        (60, 30, (60, 30, 10)),
        (0.6, 0.3, (60, 30, 10)),
        (60, 0.4, (60, 40, 0)),
        (2, 0, (2, 0, 98)),
        (1.0, 0, (100, 0, 0)),
        (100, 0.0, (100, 0, 0)),
        (0.25, 0.25, (25, 25, 50)),
    ],
)
def test_split_takes_counts_and_shares(train, heldout, sizes):
    text = Text("0123456789" * 10, "digits")
    parts = split(text, train, heldout)
    assert tuple(map(len, parts.values())) == sizes
    assert "".join(part.text for part in parts.values()) == text.text
    assert {part.source for part in parts.values()} == {"digits"}


def test_shares_that_sum_to_one_fit_every_length():
    """Rounding each share by itself would ask for 16 of 15 characters."""
    for total in range(2, 300):
        for train, heldout in [(0.9, 0.1), (0.5, 0.5), (0.7, 0.3)]:
            if round(train * total) < 2:
                continue
            sizes = [len(part) for part in split(Text("x" * total), train, heldout).values()]
            assert sum(sizes) == total
            assert abs(sizes[0] - train * total) <= 1, (total, train, sizes)
            assert abs(sizes[1] - heldout * total) <= 1, (total, train, sizes)


@pytest.mark.parametrize(
    ("text", "train", "heldout", "say"),
    [
        ("", 0.9, 0.1, "has 0 characters"),
        ("x", 1.0, 0, "has 1 characters"),
        ("x" * 100, 90, 20, "has 100 characters"),
        ("x" * 100, 0.9, 0.2, "has 100 characters"),
        ("x" * 10, 0.1, 0.1, "take 1 and 1"),
        ("x" * 9_000, 10_000, 0, "take 10,000 and 0"),
    ],
)
def test_too_little_text_is_an_error_with_both_numbers(text, train, heldout, say):
    with pytest.raises(Error, match=say) as caught:
        split(Text(text, "mine"), train, heldout)
    assert "mine" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("lengths", [(4, 1, 3), (3, 0, 0, 5), (8,)])
def test_document_bounds_survive_slicing(lengths):
    bounds = ramp(lengths)
    text = Text("".join(chr(ord("a") + i) for i in range(bounds[-1])), "", bounds)
    for first in range(bounds[-1] + 1):
        for last in range(first, bounds[-1] + 1):
            part = text[first:last]
            whole = [
                text.text[max(a, first) : min(b, last)]
                for a, b in itertools.pairwise(bounds)
                if max(a, first) < min(b, last)
            ]
            assert part.text == text.text[first:last]
            assert [d for d in documents(part.text, part.bounds) if d] == whole
            assert part.bounds[0] == 0
            assert part.bounds[-1] == len(part)


@pytest.mark.parametrize("bounds", [[0, 2], [1, 3], [0, 2, 1, 3], [], [[0, 3]]])
def test_bounds_that_are_none_are_refused(bounds):
    with pytest.raises(Error, match="bounds must rise from 0 to 3"):
        Text("abc", "", bounds)


def test_document_bounds_survive_encoding():
    text = Text("ab c d e f", "", [0, 3, 3, 8, 10])
    codec = Letters().fit(text)
    ids, bounds = encode(text, codec)
    assert [codec.decode(d) for d in documents(ids, bounds)] == ["ab", "", "cde", "f"]
    assert (ids.dtype, bounds.dtype) == (np.int32, np.int64)


def test_the_tokenizer_sees_the_training_part_alone():
    data = prepare(Text("aab" + "bcc" + "d"), 3, 3, Char())
    assert data.codec.tokens == ("<unk>", "a", "b")
    assert data.spec.inputs.size == 3
    assert {name: (s.inputs.tolist(), s.targets.tolist()) for name, s in data.streams.items()} == {
        "train": ([1, 1], [1, 2]),
        "heldout": ([2, 0], [0, 0]),
        "rest": ([], []),
    }


VALUES = np.random.default_rng(0).normal(size=(12, 2))


def test_a_series_predicts_its_next_values_in_the_units_that_are_read():
    series = Series(VALUES, bounds=[0, 5, 12])
    for tokenizer in (None, Standardize()):
        data = prepare(series, 8, 3, tokenizer)
        assert data.spec == Spec(Values(2))
        x = VALUES if tokenizer is None else (VALUES - VALUES[:8].mean(0)) / VALUES[:8].std(0)
        expected = {"train": ([0, 1, 2, 3, 5, 6], [0, 4, 6]), "heldout": ([8, 9], [0, 2]), "rest": ([], [0, 0])}
        for name, (at, bounds) in expected.items():
            stream = data.streams[name]
            np.testing.assert_allclose(stream.inputs, x[at].reshape(-1, 2), rtol=1e-12)
            np.testing.assert_allclose(stream.targets, x[np.array(at, int) + 1].reshape(-1, 2), rtol=1e-12)
            assert stream.bounds.tolist() == bounds
            assert stream.mask is None


def test_pairs_are_not_shifted_and_keep_mask_and_documents():
    ids, mask = np.arange(12) % 5, np.arange(12) % 3 > 0
    data = prepare(Pairs(ids, VALUES, mask, bounds=[0, 5, 12]), 8, 3, None)
    assert data.codec is None
    assert data.spec == Spec(Tokens(5), Values(2))
    for name, at, bounds in (("train", slice(0, 8), [0, 5, 8]), ("heldout", slice(8, 11), [0, 3])):
        inputs, targets, found, counts = data.streams[name]
        np.testing.assert_array_equal(inputs, ids[at])
        np.testing.assert_array_equal(targets, VALUES[at])
        np.testing.assert_array_equal(counts, mask[at])
        assert found.tolist() == bounds


@pytest.mark.parametrize(
    ("data", "tokenizer", "say"),
    [
        (Pairs([0, 1] * 9, [0, 1] * 9), Char(), "take no tokenizer"),
        (Series(VALUES), Char(), "splits text"),
        (Text("abcdefghijkl"), Standardize(), "scales a series"),
    ],
    ids=["pairs", "series", "text"],
)
def test_a_tokenizer_for_other_data_is_an_error(data, tokenizer, say):
    with pytest.raises(Error, match=say) as caught:
        prepare(data, 8, 3, tokenizer)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("lengths", [(5,), (1,), (0,), (2, 3), (0, 3, 1, 0, 4, 1), (1, 1), (0, 2, 0), (6, 0)])
def test_each_token_predicts_the_next_of_its_document(lengths):
    bounds = ramp(lengths)
    ids = np.random.default_rng(0).permutation(100)[: bounds[-1]].astype(np.int32)
    inputs, targets, edges = [], [], [0]
    for document in documents(ids.tolist(), bounds):
        inputs += document[:-1]
        targets += document[1:]
        edges.append(len(inputs))
    stream = next_stream(ids, bounds)
    assert stream.inputs.tolist() == inputs
    assert stream.targets.tolist() == targets
    assert stream.bounds.tolist() == edges
    assert stream.mask is None


@pytest.mark.parametrize("segments", [[(0, 7)], [(3, 3)], [(2, 5), (5, 11), (11, 11), (14, 15)], []])
@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_cut_windows(segments, num_steps):
    expected = [
        (start, min(num_steps, last - start), i)
        for i, (first, last) in enumerate(segments)
        for start in range(first, last, num_steps)
    ]
    first, last = np.array(segments, np.int64).reshape(-1, 2).T
    assert list(zip(*(a.tolist() for a in cut_windows(first, last, num_steps)), strict=True)) == expected


@pytest.mark.parametrize("lengths", [(10,), (3, 4), (0, 5, 1, 0, 6, 0), (0,), ()])
def test_in_order_reads_every_target_once_and_starts_documents_afresh(lengths):
    bounds = ramp(lengths)
    plan = in_order(bounds, 4)
    read, fresh_at = [], []
    for (start,), ((first, last),), (reset,) in zip(*(a.tolist() for a in plan), strict=True):
        assert first == 0
        assert 0 < last <= 4
        read += range(start, start + last)
        fresh_at += [start] * reset
    assert read == list(range(bounds[-1]))
    assert fresh_at == [a for a, b in itertools.pairwise(bounds) if a < b]


def test_a_window_past_the_end_repeats_the_last_entry():
    stream = Stream(np.arange(10, dtype=np.int32), np.arange(20.0, dtype=np.float32).reshape(10, 2), None)
    inputs, targets = window(stream, jnp.array([0, 8]), 3)
    assert inputs.tolist() == [[0, 8], [1, 9], [2, 9]]
    assert targets[:, 1, 1].tolist() == [17, 19, 19]


def test_steps_count_if_scored_and_in_the_mask():
    rng = np.random.default_rng(0)
    mask = rng.random(30) < 0.5
    starts, scored = np.array([0, 7, 13, 20, 28]), np.array([[0, 5], [1, 4], [3, 3], [0, 2], [0, 2]])
    for masked in (None, mask):
        expected = [
            [
                first <= t < last and (masked is None or masked[s + t])
                for s, (first, last) in zip(starts, scored, strict=True)
            ]
            for t in range(5)
        ]
        batch = Plan(jnp.asarray(starts), jnp.asarray(scored), jnp.zeros(5, bool))
        assert scored_steps(Stream(None, None, None, masked), batch, 5).tolist() == expected


@pytest.mark.parametrize("warmup", [0, 1, 3, 7, 20])
def test_the_context_after_a_fresh_start_is_not_scored(warmup):
    """A row that is not reset in the first batch goes on from before, and is past its warmup."""
    T, reset = 3, np.array([[1, 0], [0, 0], [0, 1], [1, 0], [0, 0]], bool)
    scored = np.stack(np.broadcast_arrays(0, np.array([[3, 3], [3, 2], [3, 3], [1, 3], [3, 3]])), -1).astype(np.int32)
    plan = past_warmup(Plan(np.zeros((5, 2), np.int64), scored, reset), warmup, T)
    for row in range(2):
        age = None
        for batch in range(5):
            age = 0 if reset[batch, row] else age
            for t in range(T):
                expected = t < scored[batch, row, 1] and (age is None or age + t >= warmup)
                first, last = plan.scored[batch, row]
                assert (first <= t < last) == expected
            age = None if age is None else age + T


@pytest.mark.parametrize(
    "fields",
    [
        {"bounds": [0, 11]},
        {"bounds": [0, 9]},
        {"bounds": [1, 10]},
        {"bounds": [0, 7, 3, 10]},
        {"targets": np.arange(9)},
        {"mask": np.ones(11, bool)},
    ],
)
def test_a_stream_whose_sides_do_not_fit_is_refused(fields):
    stream = Stream(np.arange(10), np.arange(10), [0, 4, 10])
    assert check_stream(stream).bounds.tolist() == [0, 4, 10]
    with pytest.raises(Error, match="stream's"):
        check_stream(stream._replace(**fields))


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan._replace(starts=plan.starts + 1),
        lambda plan: plan._replace(starts=plan.starts - 1),
        lambda plan: plan._replace(starts=plan.starts.astype(float)),
        lambda plan: plan._replace(scored=plan.scored + 1),
        lambda plan: plan._replace(reset=plan.reset[:1]),
        lambda plan: plan._replace(reset=plan.reset.astype(int)),
        lambda plan: Plan(plan.starts[:, :1], plan.scored[:, :1], plan.reset[:, :1]),
        lambda plan: Plan(plan.starts[:0], plan.scored[:0], plan.reset[:0]),
    ],
)
def test_a_plan_outside_the_stream_or_the_sampler_is_refused(change):
    sampler = Random(batch_size=2, num_steps=5)
    plan = Plan(np.array([[0, 5], [5, 0]]), np.full((2, 2, 2), [0, 5], np.int32), np.ones((2, 2), bool))
    bounds = np.array([0, 10])
    assert check_plan(plan, sampler, bounds).starts.tolist() == [[0, 5], [5, 0]]
    with pytest.raises(Error, match="sampler Random"):
        check_plan(change(plan), sampler, bounds)

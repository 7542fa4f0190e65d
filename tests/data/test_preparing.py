"""From a dataset to streams."""

import itertools
import re
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from seqjax import Error, Pairs, Series, Spec, Text, Tokenizer, Tokens, Values
from seqjax.data import Vocab
from seqjax.data.preparing import encode, prepare
from seqjax.tokenizers import Char, Standardize

VALUES = np.random.default_rng(0).normal(size=(12, 2))


@dataclass(frozen=True)
class Letters(Tokenizer):
    """Drops spaces, so that not every character is a token."""

    def split(self, text):
        return text.replace(" ", "")

    def join(self, tokens):
        return "".join(tokens)


def test_document_bounds_survive_encoding():
    text = Text("ab c d e f", "", [0, 3, 3, 8, 10])
    codec = Letters().fit(text)
    ids, bounds = encode(text, codec)
    assert [codec.decode(ids[a:b]) for a, b in itertools.pairwise(bounds)] == ["ab", "", "cde", "f"]
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


def test_a_series_predicts_its_next_values_in_the_units_of_the_codec():
    series = Series(VALUES, bounds=[0, 5, 8, 11, 12])
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
    data = prepare(Pairs(ids, VALUES, mask, bounds=[0, 5, 8, 11, 12]), 8, 3, None)
    assert data.codec is None
    assert data.spec == Spec(Tokens(5), Values(2))
    for name, at, bounds in (("train", slice(0, 8), [0, 5, 8]), ("heldout", slice(8, 11), [0, 3])):
        inputs, targets, found, counts = data.streams[name]
        np.testing.assert_array_equal(inputs, ids[at])
        np.testing.assert_array_equal(targets, VALUES[at])
        np.testing.assert_array_equal(counts, mask[at])
        assert found.tolist() == bounds


def test_a_dataset_of_its_own_is_held_out_whole():
    """The codec has seen the training part alone, and the held-out stream is read with it."""
    with pytest.warns(UserWarning, match="25.00% of the text is unknown"):
        data = prepare(Text("aabb"), 1.0, Text("bacb", bounds=[0, 2, 4]), Char())
    assert data.codec.tokens == ("<unk>", "a", "b")
    assert {name: part.text for name, part in data.parts.items()} == {"train": "aabb", "heldout": "bacb", "rest": ""}
    assert data.streams["heldout"].inputs.tolist() == [2, 0]
    assert data.streams["heldout"].targets.tolist() == [1, 2]
    assert data.source.text == "aabb"
    part = prepare(Text("aabbcc"), 4, Text("ab"), Char())
    assert {name: each.text for name, each in part.parts.items()} == {"train": "aabb", "heldout": "ab", "rest": "cc"}


@pytest.mark.parametrize("data", [Text("abcabc"), Series(np.ones((6, 1))), Pairs(np.ones(6), np.ones(6))])
def test_a_held_out_part_that_is_the_training_part_is_noted(data):
    for dataset, parts in {data[:6]: (0.5, 0.5), data[:3]: (1.0, data[3:])}.items():
        with pytest.warns(UserWarning, match="the held-out part is equal to the training part"):
            prepare(dataset, *parts, None)


def test_a_held_out_dataset_of_which_tokens_are_unknown():
    with pytest.warns(UserWarning, match=r"33\.33% of valid\.txt is unknown"):
        prepare(Text("abab"), 1.0, Text("abc", "valid.txt"), Char())
    with pytest.raises(Error, match=r"valid\.txt has no token of the vocabulary"):
        prepare(Text("abab"), 1.0, Text("cd", "valid.txt"), Char())


@pytest.mark.parametrize("heldout", [Text("ab"), Pairs([0], [1]), Series(VALUES[:, :1])])
def test_a_dataset_of_another_kind_is_not_held_out(heldout):
    with pytest.raises(Error, match="cannot read this"):
        prepare(Series(VALUES), 1.0, heldout, None)


@pytest.mark.parametrize(
    ("data", "tokenizer", "say"),
    [(Series(VALUES), Char(), "splits text"), (Text("abcdefghijkl"), Standardize(), "scales values")],
    ids=["series", "text"],
)
def test_a_tokenizer_for_other_data_is_an_error(data, tokenizer, say):
    with pytest.raises(Error, match=say) as caught:
        prepare(data, 8, 3, tokenizer)
    assert caught.value.exit_code == 2


def test_the_rest_is_encoded_when_it_is_asked_for(monkeypatch):
    """It may be nearly all of a large text, of which most commands read no more than the first parts."""
    encoded = []
    encode = Vocab.encode
    monkeypatch.setattr(Vocab, "encode", lambda self, text: encoded.append(text) or encode(self, text))
    data = prepare(Text("abcdefgh" + "hgfedcba" + "abcdefgh" * 2), 8, 8, None)
    assert encoded == ["abcdefgh", "hgfedcba"]
    assert len(data.streams["rest"].inputs) == len(data.streams["rest"].inputs) == 15
    assert encoded == ["abcdefgh", "hgfedcba", "abcdefgh" * 2]
    assert list(data.streams) == ["train", "heldout", "rest"]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (Series([0.0, 1.0, -1e39, 2.0] * 3, ["x"], "a.csv"), "a.csv: -1e+39 in column 'x' of its values"),
        (Series([[0.0, 1.0]] * 10 + [[0.0, 1e300]] * 2), "Series: 1e+300 in column 1 of its values"),
        (Pairs([0.0, 3.5e38] * 6, [0, 1] * 6), "pairs: 3.5e+38 in column 0 of its inputs"),
        (Pairs([0, 1] * 6, [[0.0], [1e39]] * 6), "pairs: 1e+39 in column 0 of its targets"),
    ],
)
def test_a_number_that_float32_cannot_hold_is_an_error_where_it_is_not_scaled(data, where):
    with pytest.raises(
        Error, match=rf"^{re.escape(where)} is too large: .* float32, .* 3\.4e\+38\n.* standardize"
    ) as caught:
        prepare(data, 6, 5, None)
    assert "JAX_ENABLE_X64=1" in str(caught.value)
    with jax.enable_x64(True):
        prepare(data, 6, 5, None)
    if isinstance(data, Series) and len(data.names):
        assert np.abs(prepare(data, 6, 5, Standardize()).streams["train"].inputs).max() < 10


def test_the_largest_number_of_float32_is_not_too_large():
    largest = float(np.finfo(np.float32).max)
    stream = prepare(Series([0.0, largest, -largest] * 4), 6, 5, None).streams["train"]
    assert np.isfinite(stream.inputs.astype(np.float32)).all()

import collections
import json

import numpy as np
import pytest

from seqjax import Tokens
from seqjax.data import Vocab
from seqjax.datasets import TimeMachine
from seqjax.tokenizers import Char, Word


def test_characters_of_the_chapter(time_machine_file):
    text = TimeMachine(path=str(time_machine_file)).load()
    vocab = Char().fit(text)
    assert len(vocab) == 28
    assert vocab.tokens == ("<unk>", *" etainoshrdlmucfwgypbvkxzjq")
    ids = vocab.encode(text.text)
    assert ids.dtype == np.int32
    assert ids.shape == (170_580,)
    assert vocab.decode(ids) == text.text
    # the part that is trained on already has all 27 tokens, in another order
    assert set(Char().fit(text[:9_000]).tokens) == set(vocab.tokens)
    assert Char().fit(text[:9_000]).tokens != vocab.tokens


@pytest.mark.parametrize("min_freq", [1, 2, 4])
@pytest.mark.parametrize("reserved", [(), ("<pad>",), ("c", "<pad>", "a")])
def test_ids_are_those_of_unknown_reserved_and_then_by_frequency_and_occurrence(min_freq, reserved):
    tokens = np.random.default_rng(0).choice(list("abcdefghij"), 40).tolist()
    vocab = Vocab.from_tokens(tokens, min_freq, reserved)
    counted = [t for t in set(tokens) if tokens.count(t) >= min_freq and t not in reserved]
    counted.sort(key=lambda t: (-tokens.count(t), tokens.index(t)))
    assert vocab.tokens == ("<unk>", *reserved, *counted)
    assert vocab.freqs == collections.Counter(tokens), "the rare ones are counted too"
    assert len(vocab) == len(vocab.tokens)
    assert vocab.spec == Tokens(len(vocab))
    assert [vocab[t] for t in vocab.tokens] == list(range(len(vocab)))


def test_a_list_has_many_ids_and_a_tuple_is_one_token():
    vocab = Vocab.from_tokens(["the", "time", "the", ("of", "the")])
    assert vocab["the"] == 1
    assert vocab[("of", "the")] == 3
    assert vocab[["the", "time", "machine"]].tolist() == [1, 2, 0]
    assert vocab[["of", "the"]].tolist() == [0, 1]
    assert vocab[("the", "of")] == 0
    assert vocab[["the"]].dtype == vocab[[]].dtype == np.int32
    assert vocab.to_tokens(3) == ("of", "the")
    assert vocab.to_tokens([0, 2, 2]) == vocab.to_tokens(np.array([0, 2, 2])) == ["<unk>", "time", "time"]
    assert "time" in vocab
    assert "machine" not in vocab


def test_an_unknown_token_of_the_text_itself_is_id_0():
    vocab = Vocab.from_tokens(["a", "<unk>", "<unk>"])
    assert vocab.tokens == ("<unk>", "a")
    assert vocab["<unk>"] == 0


@pytest.mark.parametrize("text", ["", "a", "a\0b\r\n\ufeff", "😀e\u0301é 😀"])
def test_characters_are_kept_as_they_are(text):
    vocab = Vocab.from_tokens(text)
    assert vocab.decode(vocab.encode(text)) == text
    assert len(vocab.encode(text)) == len(text)


def test_json_keeps_tokens_ids_and_counts():
    tokens = ["a", "b", ("a", "b"), ("a", ("b", 3)), 7, 7, "é\n", "rare"]
    vocab = Vocab.from_tokens(tokens, reserved=["<pad>"])
    read = Vocab.from_dict(json.loads(json.dumps(vocab.to_dict())), tokenizer=Word(normalize=False))
    assert read.tokens == vocab.tokens
    assert list(read.freqs.items()) == list(vocab.freqs.items())
    assert read[list(tokens)].tolist() == vocab[list(tokens)].tolist()
    assert read.encode("b a zebra").tolist() == [vocab["b"], vocab["a"], 0]

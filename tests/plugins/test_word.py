import json
import re
import unicodedata

import numpy as np
import pytest

from seqjax import Error, Series, Text
from seqjax.datasets import TimeMachine
from seqjax.tokenizers import Word


@pytest.fixture(scope="module")
def text(time_machine_file):
    return TimeMachine(path=str(time_machine_file), form="lines").load()


def test_words_of_the_chapter(text):
    vocab = Word().fit(text)
    lines = text.text.split("\n")
    assert len(Word().split(text.text)) == len(vocab.encode(text.text)) == 32_775
    assert len(vocab.freqs) == 4_579
    assert len(vocab) == 4_580
    assert vocab.tokens[:10] == ("<unk>", "the", "i", "and", "of", "a", "to", "was", "in", "that")
    assert vocab.encode(lines[0]).tolist() == [1, 19, 50, 40, 2183, 2184, 400]
    assert vocab.encode(lines[10]).tolist() == [2186, 3, 25, 1044, 362, 113, 7, 1421, 3, 1045, 1]
    assert vocab.decode(vocab.encode(lines[10])) == lines[10]


@pytest.mark.parametrize(
    ("min_freq", "size"),
    [(0, 4580), (1, 4580), (2, 2183), (3, 1420), (4, 1044), (5, 825), (10, 400), (20, 219), (50, 85), (100, 41)],
)
def test_min_freq_of_the_chapter(text, min_freq, size):
    vocab = Word(min_freq=min_freq).fit(text)
    assert len(vocab) == size
    assert len(vocab.freqs) == 4_579, "the rare ones are counted too"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Time-Machine,\r\nby H. G. Wells [1898]", "the time machine by h g wells"),
        ("it's 3rd_place", "it s rd place"),
        (" \n\t..", ""),
        ("Été à Łódź, ΑΣ", "été à łódź ας"),
        ("İSTANBUL'da", "i\u0307stanbul da"),
        ("cafe\u0301s, re\u0301sume\u0301.", "cafe\u0301s re\u0301sume\u0301"),
        ("हिन्दी में नमस्ते!", "हिन्दी में नमस्ते"),
        ("ไทยที่นี่", "ไทยที่นี่"),
        ("a \u0301 b 3\u0301\u0301c", "a b c"),
    ],
)
def test_normalised_words_are_runs_of_letters_with_their_marks_in_lower_case(text, words):
    assert Word().split(text) == words.split()


@pytest.mark.parametrize("text", ["Ça Été à Łódź", "naïve façade", "Việt Nam ế"])
def test_composed_and_decomposed_letters_split_at_the_same_places(text):
    composed, decomposed = (Word().split(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert [unicodedata.normalize("NFC", word) for word in decomposed] == composed


def test_text_without_marks_has_the_words_of_the_plain_pattern(text):
    raw = text.text + "\nÉté à Łódź_ 3rd ΑΣ ß"
    assert Word().split(raw) == re.findall(r"[^\W\d_]+", raw.lower())


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("text", ["Don't  stop\n now", "", "İ ǅ ß 𝔄\u00a0b\x1cc", "a\0b"])
def test_joined_words_split_into_the_same_words(normalize, text):
    tokenizer = Word(normalize=normalize)
    words = tokenizer.split(text)
    assert tokenizer.split(tokenizer.join(words)) == words
    assert tokenizer.join(words) == " ".join(words)


def test_words_that_are_not_normalised_are_separated_by_white_space():
    assert Word(normalize=False).split(" Don't\tstop,\r\nnow 2 ") == ["Don't", "stop,", "now", "2"]


def test_no_word_crosses_a_document():
    vocab = Word().fit(Text("onetwo three", bounds=[0, 3, 12]))
    assert vocab.tokens == ("<unk>", "one", "two", "three")


def test_order_reserved_and_rare_words():
    vocab = Word(min_freq=2, reserved=("<pad>", "rare")).fit(Text("b a c a rare b"))
    assert vocab.tokens == ("<unk>", "<pad>", "rare", "b", "a")
    assert vocab.encode("a x c b <pad>").tolist() == [4, 0, 0, 3, 0], "normalised: no <pad> in a text"
    assert vocab.decode([1, 4]) == "<pad> a"
    assert vocab.encode("a").dtype == np.int32


def test_a_codec_is_loaded_from_its_dict():
    tokenizer = Word(normalize=False, min_freq=2, reserved=("<pad>",))
    vocab = tokenizer.fit(Text("To be, or not To be,"))
    read = tokenizer.load(json.loads(json.dumps(vocab.to_dict())))
    assert read.tokens == vocab.tokens == ("<unk>", "<pad>", "To", "be,")
    assert read.encode("not To be,").tolist() == [0, 2, 3]


def test_a_series_has_no_words():
    with pytest.raises(Error, match="splits text, and the dataset is of type Series"):
        Word().fit(Series([1.0, 2.0]))

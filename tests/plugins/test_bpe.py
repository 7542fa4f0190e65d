import hashlib
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from seqjax import Error, Series, Text
from seqjax.data.preparing import load_codec
from seqjax.data.tokenizer import TextCodec
from seqjax.datasets import PythonDocs
from seqjax.tokenizers import BPE
from seqjax_tokenizers import bpe

CODE = """
import hashlib
from seqjax.datasets import PythonDocs
from seqjax.tokenizers import BPE
text = PythonDocs().load()
print(text.sha256, hashlib.sha256(BPE(vocab_size=400).fit(text[:50_000]).saved.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def codec():
    return BPE(vocab_size=400).fit(PythonDocs().load()[:50_000])


ODD = ["", " x \n", "😀e\u0301é\u200d👩‍👩‍👧", "a\0b\r\n\tc\rd\n\n\n e\ufeff<unk>", "中文 字", "x" * 9999]


@pytest.mark.parametrize("text", ODD)
def test_every_text_is_decoded_exactly(codec, text):
    ids = codec.encode(text)
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert codec.decode(ids) == text
    assert len(codec.split(text)) == len(ids)
    assert [codec.tokens.index(token) for token in codec.split(text)] == ids.tolist()


def test_a_text_is_decoded_exactly_without_any_merge():
    codec = BPE(vocab_size=300).fit(Text("", bounds=[0, 0]))
    assert len(codec) == 256
    assert codec.decode(codec.encode("zürich 😀")) == "zürich 😀"
    assert len(codec.encode("zürich 😀")) == len("zürich 😀".encode()), "bytes"


def test_no_merge_crosses_a_document_or_sees_another_split():
    whole, apart = (BPE(vocab_size=300).fit(Text("xy" * 9, bounds=bounds)) for bounds in (None, range(19)))
    assert "xy" in whole.tokens
    assert not any(set(token) <= {"x", "y"} and len(token) > 1 for token in apart.tokens)


def test_tokens_are_fewer_than_characters_and_no_more_than_asked(codec):
    text = PythonDocs().load().text[50_000:60_000]
    assert len(codec) == len(codec.tokens) == len(set(codec.tokens)) == 400
    assert len(codec.encode(text)) < 0.7 * len(text)
    assert "<unk>" not in codec.tokens


@pytest.mark.parametrize("size", [1, 7, 64])
def test_encoding_in_pieces_changes_no_token(codec, monkeypatch, size):
    rng = np.random.default_rng(0)
    alphabet = [*"ab'sé1_!. \n\t\r\x1c\x85\u00a0\u2028\u3000😀", "\n\n", "  ", " the", "'s", "don't"]
    texts = ["".join(rng.choice(alphabet, 200)) for _ in range(100)] + [PythonDocs().load().text[:20_000], *ODD]
    expected = [codec._tokenizer.encode(text).ids for text in texts]
    monkeypatch.setattr(bpe, "CHUNK", size)
    assert len(bpe._chunks(texts[-2])) > 1 or size > 1
    assert sum(len(bpe._chunks(text)) for text in texts) > 2 * len(texts)
    assert [codec.encode(text).tolist() for text in texts] == expected


def test_ids_that_are_not_utf_8_become_replacement_characters(codec):
    euro = codec.encode("€")
    assert codec.decode(euro[:1]) == codec.decode(int(euro[0])) == "\ufffd"
    ids = np.random.default_rng(0).integers(0, len(codec), 2000)
    decoded = codec.decode(ids)
    assert "\ufffd" in decoded
    decoded.encode()
    assert codec.decode([]) == ""


@pytest.mark.parametrize("ids", [[400], [3, -1]])
def test_ids_out_of_range_are_an_error(codec, ids):
    with pytest.raises(Error, match=f"no token {ids[-1]}; ids are below 400"):
        codec.decode(ids)


def test_a_lone_surrogate_is_an_error_that_says_where(codec):
    for call in (codec.encode, lambda text: BPE().fit(Text(text))):
        with pytest.raises(Error, match=r"U\+D800, at character 2") as caught:
            call("ab\ud800c")
        assert caught.value.exit_code == 2
        assert "char" in str(caught.value)


def test_it_is_saved_as_the_standard_file_and_loaded_from_it(codec, tmp_path):
    from tokenizers import Tokenizer

    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(codec.to_dict()), encoding="utf-8")
    text = "def f(x):\n    return x 😀"
    assert Tokenizer.from_file(str(file)).encode(text).ids == codec.encode(text).tolist()
    read = BPE(vocab_size=400).load(json.loads(file.read_text(encoding="utf-8")))
    assert read == codec
    assert read.encode(text).tolist() == codec.encode(text).tolist()
    assert pickle.loads(pickle.dumps(codec)).encode(text).tolist() == codec.encode(text).tolist()
    assert isinstance(codec, TextCodec)


def test_text_and_training_are_the_same_in_every_process(codec):
    text = PythonDocs().load().text
    env = {**os.environ, "PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split() == [hashlib.sha256(each.encode()).hexdigest() for each in (text, codec.saved)]
    assert done.stderr == ""


def test_wrong_data_and_sizes():
    with pytest.raises(Error, match="splits text, and the dataset is of type Series"):
        BPE().fit(Series([1.0, 2.0]))
    with pytest.raises(Error, match="vocab_size = 255"):
        BPE(vocab_size=255)


def test_the_library_is_not_asked_for_more_tokens_than_the_text_can_have():
    """It would end the process, since it allocates them."""
    text = PythonDocs().load()[:2000]
    most = BPE(vocab_size=2**31).fit(text)
    assert most.saved == BPE(vocab_size=5000).fit(text).saved
    assert len(most) < 5000


@pytest.mark.parametrize("saved", [None, 3, [], {}, {"model": {"type": "BPE", "vocab": {}, "merges": []}}])
def test_a_damaged_codec_is_an_error_when_it_is_loaded(codec, saved):
    with pytest.raises(ValueError, match="tokenizer bpe: load raises"):
        load_codec(BPE(), saved)
    assert len(BPE().load(codec.to_dict())) == len(codec)

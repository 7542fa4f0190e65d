"""Checks of a tokenizer and of the codec that it fits: what is encoded can be decoded, saved and loaded."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqjax.data.dataset import Series, Text
from seqjax.data.preparing import check_join, fit
from seqjax.data.spec import Tokens, Values
from seqjax.data.tokenizer import UNKNOWN, TextCodec, Tokenizer
from seqjax.errors import Error
from seqjax.testing.compare import Failed, Skipped, assert_close
from seqjax.testing.line import Check, Found
from seqjax.testing.process import in_another_process

PLAIN = "It was a dark and stormy night; the rain fell in torrents, except at intervals. It was violent.\n" * 20
"""The text to which a tokenizer is fitted."""
NEW = "quixotic zephyrs λόγος"
"""Words that do not occur in `PLAIN`."""
UNICODE = {
    "combining marks": "e\u0301te\u0301 a\u0308hnlich n\u0303andu\u0301 " * 3,
    "emoji": "so \U0001f469\u200d\U0001f680 it \U0001f1eb\U0001f1ee goes \U0001f44d\U0001f3fd on " * 3,
    "CRLF": "one line\r\nanother line\r\n\r\na third\r" * 3,
    "NUL": "before\0after \0\0 end " * 3,
    "right to left": "שלום עולם مرحبا بالعالم ‏" * 3,
}
"""Texts with characters that are often handled wrongly."""
LONG = "the rain fell in torrents " * 8_000
"""One long line."""
SERIES = Series(np.random.default_rng(0).normal(3, 2, (50, 2)))
"""The series to which a tokenizer is fitted that takes no text."""


def checks(tokenizer: Tokenizer) -> Sequence[Check]:
    """The checks of a tokenizer; the first one is that it fits a codec."""
    return CHECKS


def check_fit(tokenizer: Tokenizer) -> Found:
    """Checks that it fits a codec to a text or to a series, and refuses the other with an `Error`."""
    data, codec = _fitted(tokenizer)
    with contextlib.suppress(Error):  # it takes one of the two
        fit(tokenizer, SERIES if isinstance(data, Text) else Text(PLAIN))
    return Found(note=f"{type(data).__name__}, {codec.spec}")


def check_identity(tokenizer: Tokenizer) -> Found:
    """Checks that decoding is the inverse of encoding, on what the codec was fitted on."""
    data, codec = _fitted(tokenizer)
    if isinstance(data, Series):
        return Found(assert_close(codec.decode(codec.encode(data.values)), data.values, "decode(encode(values))"))
    return Found(note=_check_text(tokenizer, codec, data.text, "the text to which it was fitted"))


def check_ids(tokenizer: Tokenizer) -> Found:
    """Checks dtypes and shapes, that ids lie below the size of the codec, and that each id has a token."""
    data, codec = _fitted(tokenizer)
    if isinstance(data, Series):
        encoded = codec.encode(data.values)
        if encoded.ndim != 2 or encoded.dtype != np.float64 or codec.spec != Values(encoded.shape[1]):
            raise Failed(f"encode returns {encoded.dtype}{list(encoded.shape)}, and the spec is {codec.spec}")
        return Found()
    for text in (data.text, NEW):
        _check_ids(codec, text)
    if codec.spec != Tokens(len(codec)) or len(codec.tokens) != len(codec):
        raise Failed(f"the spec is {codec.spec}, there are {len(codec.tokens)} tokens, and the length is {len(codec)}")
    return Found(note=f"{len(codec)} ids")


def check_unknown(tokenizer: Tokenizer) -> Found:
    """Checks that tokens which the codec does not know stay visible."""
    codec = _text_codec(tokenizer)
    decoded = codec.decode(codec.encode(NEW))
    if UNKNOWN not in decoded and len(decoded.split()) < len(NEW.split()):
        raise Failed(f"{NEW!r} is encoded and decoded to {decoded!r}: unknown tokens vanish")
    return Found(note=f"{NEW!r} becomes {decoded!r}")


def check_unicode(tokenizer: Tokenizer) -> Found:
    """Checks texts with unusual characters, to which the codec is fitted or not."""
    _text_codec(tokenizer)
    for name, text in UNICODE.items():
        codec = fit(tokenizer, Text(text))
        _check_text(tokenizer, codec, text, name)
        _check_ids(_fitted(tokenizer)[1], text)
    return Found(note=", ".join(UNICODE))


def check_empty(tokenizer: Tokenizer) -> Found:
    """Checks that an empty text has no ids, and the other way round."""
    codec = _text_codec(tokenizer)
    ids = codec.encode("")
    if len(ids):
        raise Failed(f"the empty text has {len(ids)} ids, which stand for {codec.decode(ids)!r}")
    text = codec.decode(np.zeros(0, np.int32))
    if text != "":
        raise Failed(f"no ids are decoded to {text!r}")
    return Found()


def check_long_line(tokenizer: Tokenizer) -> Found:
    """Checks one line of 208,000 characters."""
    codec = _text_codec(tokenizer)
    return Found(note=_check_text(tokenizer, codec, LONG, f"a line of {len(LONG):,} characters"))


def check_saved(tokenizer: Tokenizer) -> Found:
    """Checks that a codec that was saved as JSON and loaded gives the same ids, and decodes them to the same text."""
    data, codec = _fitted(tokenizer)
    saved = json.loads(json.dumps(codec.to_dict()))
    again: Any = tokenizer.load(saved)
    if isinstance(data, Series):
        assert_close(again.encode(data.values), codec.encode(data.values), "a saved codec's encode", bound=0)
        return Found()
    for text in (data.text, NEW):
        ids, others = codec.encode(text), again.encode(text)
        if not np.array_equal(ids, others) or codec.decode(ids) != again.decode(ids):
            raise Failed(f"a codec that was saved and loaded encodes {text[:40]!r} in another way")
    return Found()


def check_processes(tokenizer: Tokenizer) -> Found:
    """Checks that another process, in which strings have other hashes, gives the same ids."""
    from seqjax.testing.process import hash_of_ids

    _text_codec(tokenizer)
    if in_another_process(tokenizer, "hash_of_ids", PLAIN) != hash_of_ids(tokenizer, PLAIN):
        raise Failed("another process, in which strings have other hashes, gives other ids")
    return Found()


CHECKS = (
    Check("fit", check_fit, "fit(data) returns a codec of a Text, or of a Series, and raises seqjax.Error for others"),
    Check(
        "decode inverts encode", check_identity,
        "join must be the inverse of split, so that the text of a model can be read: what a tokenizer changes, such as "
        "the case of letters, it changes in split alone",
    ),
    Check(
        "ids", check_ids,
        "encode returns int32[n], an id below len(codec) for each token of split; codec.tokens names the token of each",
    ),
    Check("unknown tokens are visible", check_unknown, f"let unknown tokens have the id of {UNKNOWN!r}, as Vocab does"),
    Check("Unicode", check_unicode, "treat a text as a string of characters, of which any may occur"),
    Check("empty text", check_empty, 'split("") returns no tokens, and join([]) returns ""'),
    Check("one long line", check_long_line, "neither recursion nor a limit on the length of a line"),
    Check("saved and loaded", check_saved, "to_dict holds all that the codec needs, as plain values for JSON"),
    Check("two processes are equal", check_processes, "the order of a set differs from process to process: sort it"),
)  # fmt: skip


def _fitted(tokenizer: Tokenizer) -> tuple[Text | Series, Any]:
    """The data that the tokenizer takes, and the codec that is fitted to them."""
    text, reasons = Text(PLAIN), []
    for data in (text, SERIES):
        try:
            return data, fit(tokenizer, data)
        except Error as why:
            reasons.append(str(why))
    raise Failed(f"fit takes neither a text nor a series: {reasons[0]}")


def _text_codec(tokenizer: Tokenizer) -> TextCodec:
    data, codec = _fitted(tokenizer)
    if isinstance(data, Series):
        raise Skipped("it takes a series, and not a text")
    return codec


def _check_text(tokenizer: Tokenizer, codec: Any, text: str, name: str) -> str:
    """Checks that decoded ids are encoded to the same ids. Returns whether the text is the same as well."""
    if type(tokenizer).join is not Tokenizer.join:
        check_join(tokenizer, text)
    ids = codec.encode(text)
    decoded = codec.decode(ids)
    if decoded == text:
        return "the text stays the same"
    if UNKNOWN not in decoded and not np.array_equal(codec.encode(decoded), ids):
        raise Failed(f"{name}: the ids of {text[:40]!r} are decoded to {decoded[:40]!r}, which has other ids")
    return "the text is changed by split"


def _check_ids(codec: Any, text: str) -> None:
    ids = codec.encode(text)
    if not isinstance(ids, np.ndarray) or ids.dtype != np.int32 or ids.ndim != 1:
        returned = f"{ids.dtype}{list(ids.shape)}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise Failed(f"encode returns {returned}, and must return a numpy array int32[n]")
    if ids.size and not 0 <= ids.min() <= ids.max() < len(codec):
        raise Failed(f"ids go from {ids.min()} to {ids.max()}, and must lie below {len(codec)}")
    num_tokens = len(list(codec.split(text)))
    if num_tokens != len(ids):
        raise Failed(f"split gives {num_tokens} tokens for {text[:40]!r}, and encode {len(ids)} ids")

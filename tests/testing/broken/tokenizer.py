"""Tokenizers that are wrong. `rejected_by` names the check that must find it."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import seqjax
from seqjax import Text
from seqjax.data import Vocab


@seqjax.register("tokenizer", "joins-without-blanks")
@dataclass(frozen=True)
class JoinsWithoutBlanks(seqjax.Tokenizer):
    """Its words are joined without the blanks between them."""

    rejected_by: ClassVar = {"fit"}

    def split(self, text):
        return text.split()

    def join(self, tokens):
        return "".join(tokens)


@seqjax.register("tokenizer", "fit-returns-the-ids")
@dataclass(frozen=True)
class FitReturnsTheIds(seqjax.Tokenizer):
    """It returns ids in place of a codec."""

    rejected_by: ClassVar = {"fit"}

    def fit(self, data):
        return np.arange(len(data))


class Codec(Vocab):
    """A vocabulary of characters, from which wrong codecs are derived."""


class Characters(seqjax.Tokenizer):
    """A correct tokenizer, from which the others are derived."""

    codec: ClassVar = Codec

    def fit(self, data):
        assert_text(data)
        return self.codec.from_tokens(data.text)

    def load(self, saved):
        return self.codec.from_dict(saved)


def assert_text(data):
    if not isinstance(data, Text):
        raise seqjax.Error("it takes texts alone")


class Reversing(Codec):
    def decode(self, ids):
        return super().decode(ids)[::-1]


@seqjax.register("tokenizer", "decodes-backwards")
@dataclass(frozen=True)
class DecodesBackwards(Characters):
    """The decoded text runs backwards."""

    rejected_by: ClassVar = {"decode inverts encode", "Unicode", "one long line"}
    codec: ClassVar = Reversing


class FromOne(Codec):
    def encode(self, text):
        return super().encode(text) + np.int32(1)

    def decode(self, ids):
        return super().decode(np.asarray(ids) - 1)


@seqjax.register("tokenizer", "ids-from-one")
@dataclass(frozen=True)
class IdsFromOne(Characters):
    """Its ids start at 1, and the last one is as large as the vocabulary."""

    rejected_by: ClassVar = {"ids", "Unicode"}
    codec: ClassVar = FromOne


class Wide(Codec):
    def encode(self, text):
        return super().encode(text).astype(np.int64)


@seqjax.register("tokenizer", "wide-ids")
@dataclass(frozen=True)
class WideIds(Characters):
    """Its ids are int64."""

    rejected_by: ClassVar = {"ids", "Unicode"}
    codec: ClassVar = Wide


class Dropping(Codec):
    def split(self, text):
        return [token for token in text if token in self]

    def encode(self, text):
        return self[self.split(text)]


@seqjax.register("tokenizer", "drops-unknown-tokens")
@dataclass(frozen=True)
class DropsUnknownTokens(Characters):
    """Tokens that it does not know vanish."""

    rejected_by: ClassVar = {"unknown tokens are visible"}
    codec: ClassVar = Dropping


@seqjax.register("tokenizer", "one-byte-a-character")
@dataclass(frozen=True)
class OneByteACharacter(seqjax.Tokenizer):
    """It reads characters as single bytes."""

    rejected_by: ClassVar = {"ids", "unknown tokens are visible", "Unicode", "saved and loaded"}

    def split(self, text):
        return list(text.encode("latin-1").decode("latin-1"))

    def join(self, tokens):
        return "".join(tokens)


@seqjax.register("tokenizer", "reads-line-by-line")
@dataclass(frozen=True)
class ReadsLineByLine(seqjax.Tokenizer):
    """It takes a carriage return for the end of a line, which it writes in another way."""

    rejected_by: ClassVar = {"Unicode"}

    def split(self, text):
        return [token for line in re.split("(\n)", text) for token in re.findall(r"\r|[^\r]", line)]

    def join(self, tokens):
        return "".join(tokens).replace("\r\n", "\n")


@seqjax.register("tokenizer", "split-at-blanks")
@dataclass(frozen=True)
class SplitAtBlanks(seqjax.Tokenizer):
    """The empty text has one token, the empty word."""

    rejected_by: ClassVar = {"empty text"}

    def split(self, text):
        return text.split(" ")

    def join(self, tokens):
        return " ".join(tokens)


@seqjax.register("tokenizer", "recursive")
@dataclass(frozen=True)
class Recursive(seqjax.Tokenizer):
    """It calls itself for every word of a line."""

    rejected_by: ClassVar = {"one long line"}

    def split(self, text):
        return [token for line in text.splitlines(keepends=True) for token in self._words(line)]

    def _words(self, line):
        head, blank, tail = line.partition(" ")
        return [part for part in (head, blank) if part] + (self._words(tail) if tail else [])

    def join(self, tokens):
        return "".join(tokens)


class Forgetting(Codec):
    def to_dict(self):
        return {"tokens": sorted(self.tokens), "freqs": []}


@seqjax.register("tokenizer", "saves-another-order")
@dataclass(frozen=True)
class SavesAnotherOrder(Characters):
    """It saves its tokens in another order."""

    rejected_by: ClassVar = {"saved and loaded"}
    codec: ClassVar = Forgetting


@seqjax.register("tokenizer", "order-of-a-set")
@dataclass(frozen=True)
class OrderOfASet(Characters):
    """It numbers tokens in the order of a set."""

    rejected_by: ClassVar = {"two processes are equal"}

    def fit(self, data):
        assert_text(data)
        return Vocab.from_tokens(set(data.text))

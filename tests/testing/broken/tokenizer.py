"""Tokenizers that are wrong. `wrong` is told which checks must find it."""

import re
from typing import ClassVar

import numpy as np
from support.wrong import wrong

import seqjax
from seqjax.data import Vocab


@wrong("tokenizer", "fit")
class JoinsWithoutBlanks(seqjax.Tokenizer):
    """Its words are joined without the blanks between them."""

    def split(self, text):
        return text.split()

    def join(self, tokens):
        return "".join(tokens)


class Characters(seqjax.Tokenizer):
    """A correct tokenizer, from which the others are derived."""

    is_of_characters: ClassVar = True
    codec: ClassVar = Vocab

    def load(self, saved):
        return self.codec.from_dict(saved)

    def fit(self, data):
        return self.load(super().fit(data).to_dict())


class Reversing(Vocab):
    def decode(self, ids):
        return super().decode(ids)[::-1]


@wrong("tokenizer", "decode inverts encode", "Unicode", "one long line")
class DecodesBackwards(Characters):
    """The decoded text runs backwards."""

    codec: ClassVar = Reversing


class FromOne(Vocab):
    def encode(self, text):
        return super().encode(text) + np.int32(1)

    def decode(self, ids):
        return super().decode(np.asarray(ids) - 1)


@wrong("tokenizer", "ids", "Unicode")
class IdsFromOne(Characters):
    """Its ids start at 1, and the last one is as large as the vocabulary."""

    codec: ClassVar = FromOne


class Wide(Vocab):
    def encode(self, text):
        return super().encode(text).astype(np.int64)


@wrong("tokenizer", "ids", "Unicode")
class WideIds(Characters):
    """Its ids are int64."""

    codec: ClassVar = Wide


class Dropping(Vocab):
    def split(self, text):
        return [token for token in text if token in self]

    def encode(self, text):
        return self[self.split(text)]


@wrong("tokenizer", "unknown tokens are visible")
class DropsUnknownTokens(Characters):
    """Tokens that it does not know vanish."""

    codec: ClassVar = Dropping


@wrong("tokenizer", "Unicode")
class ReadsLineByLine(seqjax.Tokenizer):
    """It takes a carriage return for the end of a line, which it writes in another way."""

    def split(self, text):
        return [token for line in re.split("(\n)", text) for token in re.findall(r"\r|[^\r]", line)]

    def join(self, tokens):
        return "".join(tokens).replace("\r\n", "\n")


@wrong("tokenizer", "empty text")
class SplitAtBlanks(seqjax.Tokenizer):
    """The empty text has one token, the empty word."""

    def split(self, text):
        return text.split(" ")

    def join(self, tokens):
        return " ".join(tokens)


@wrong("tokenizer", "one long line")
class Recursive(seqjax.Tokenizer):
    """It calls itself for every word of a text."""

    def split(self, text):
        head, blank, tail = text.partition(" ")
        return [part for part in (head, blank) if part] + (self.split(tail) if tail else [])

    def join(self, tokens):
        return "".join(tokens)


class Forgetting(Vocab):
    def to_dict(self):
        return {"tokens": sorted(self.tokens), "freqs": []}


@wrong("tokenizer", "saved and loaded")
class SavesAnotherOrder(Characters):
    """It saves its tokens in another order."""

    codec: ClassVar = Forgetting


@wrong("tokenizer", "two processes are equal")
class OrderOfASet(Characters):
    """It numbers tokens in the order of a set."""

    def fit(self, data):
        return Vocab.from_tokens(set(super().fit(data).tokens))

"""Byte pairs as tokens."""

import functools
import json
import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Text, Tokenizer, Tokens, register
from seqjax.extras import needing

CHUNK = 2**16
"""Characters that are encoded at once, and a few more up to the end of a word, so that memory stays bounded."""


@register("tokenizer", "bpe")
@dataclass(frozen=True)
class BPE(Tokenizer):
    """Byte pair encoding on bytes (Sennrich et al. 2016; Radford et al. 2019), with the library `tokenizers`.

    The tokens are the 256 bytes, and the most frequent pairs of tokens in the training part, which are merged one after
    the other. Every text can be encoded and is decoded exactly, so there is no `<unk>`. No merge crosses a word or a
    document.
    """

    cites = ("sennrich2016neural", "radford2019language")
    also_called = ("byte-pair", "byte-level-bpe", "gpt2", "subword")
    extra = "data"

    vocab_size: Annotated[int, Interval(ge=256)] = 1024
    """Largest number of tokens. A short text has fewer pairs to merge."""

    def fit(self, data):
        """Learns the merges from the training part."""
        with needing(self.extra, "tokenizer bpe"):
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if not isinstance(data, Text):
            return super().fit(data)  # raises the error for other data
        for document in data.documents:
            _check(document)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        # The library allocates as much as it is told to. Each merge beyond the bytes takes a pair of bytes of the text.
        most = min(self.vocab_size, len(alphabet) + 4 * len(data))
        trainer = trainers.BpeTrainer(vocab_size=most, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator((chunk for text in data.documents for chunk in _chunks(text)), trainer)
        return BytePairs(tokenizer.to_str())

    def load(self, saved):
        """The codec of the content of a `tokenizer.json`."""
        codec = BytePairs(json.dumps(saved, ensure_ascii=False, separators=(",", ":")))
        if not len(codec):  # which reads it, so that a damaged one is an error here
            raise Error("tokenizer bpe: it has no tokens")
        return codec


@dataclass(frozen=True)
class BytePairs:
    """A codec between text and byte pairs.

    Args:
        saved: the content of its `tokenizer.json`.
    """

    saved: str

    @functools.cached_property
    def _tokenizer(self):
        with needing("data", "tokenizer bpe"):
            from tokenizers import Tokenizer

        return Tokenizer.from_str(self.saved)

    @functools.cached_property
    def tokens(self):
        """The token of each id; bytes are written as in the file, a space as Ġ."""
        return tuple(self._tokenizer.id_to_token(i) for i in range(len(self)))

    def __len__(self):
        return self._tokenizer.get_vocab_size()

    @property
    def spec(self):
        """Token ids below `len(self)`."""
        return Tokens(len(self))

    def split(self, text):
        """The tokens of a text."""
        return [self.tokens[i] for i in self.encode(text)]

    def encode(self, text):
        """Ids int32[n] of a text."""
        _check(text)
        return np.concatenate([np.array(self._tokenizer.encode(chunk).ids, np.int32) for chunk in _chunks(text)])

    def decode(self, ids):
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        ids = np.atleast_1d(ids).tolist()
        strange = [i for i in ids if not 0 <= i < len(self)]
        if strange:
            raise Error(f"tokenizer bpe: there is no token {strange[0]}; ids are below {len(self)}")
        return self._tokenizer.decode(ids)

    def to_dict(self):
        """The content of its `tokenizer.json`, which other programs can read."""
        return json.loads(self.saved)


def _chunks(text):
    """Pieces of the text that end at the end of a word, before a space or line end, so that no token changes."""
    return re.findall(rf"(?s).{{{CHUNK}}}.*?\S(?=[ \n])|.+", text) or [""]


def _check(text):
    lone = re.search("[\ud800-\udfff]", text)
    if lone:
        raise Error(
            f"tokenizer bpe: the text has a lone surrogate, U+{ord(lone[0]):04X}, at character {lone.start():,}, "
            "which UTF-8 cannot encode\nRemove it, or read characters with --tokenizer char"
        )

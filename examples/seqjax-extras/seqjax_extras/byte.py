"""The tokenizer byte."""

from dataclasses import dataclass

import seqjax
from seqjax.data import Vocab


@seqjax.register("tokenizer", "byte")
@dataclass(frozen=True)
class Byte(seqjax.Tokenizer):
    """The bytes of UTF-8 are tokens, so that no text has unknown ones: 256, and `<unk>`, which never occurs."""

    def split(self, text):
        """The numbers of the bytes."""
        return list(text.encode("utf-8", "surrogatepass"))

    def join(self, tokens):
        """The text of bytes; those that are not UTF-8 become U+FFFD."""
        return bytes(token for token in tokens if isinstance(token, int)).decode("utf-8", "replace")

    def fit(self, data):
        """The vocabulary of all bytes."""
        counted = super().fit(data)
        return Vocab.from_tokens(counted.freqs, reserved=range(256), tokenizer=self)

"""The tokenizer my-tokenizer."""

import re
from dataclasses import dataclass

import seqjax


@seqjax.register("tokenizer", "my-tokenizer")
@dataclass(frozen=True)
class MyTokenizer(seqjax.Tokenizer):
    """Runs of white space, and the runs of other characters between them, are tokens."""

    def split(self, text):
        """The tokens of a text, in order."""
        return re.findall(r"\s+|\S+", text)

    def join(self, tokens):
        """The text of tokens, the inverse of `split`."""
        return "".join(tokens)

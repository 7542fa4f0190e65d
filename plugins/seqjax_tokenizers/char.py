"""Characters as tokens."""

from dataclasses import dataclass

from seqjax import Tokenizer, register


@register("tokenizer", "char")
@dataclass(frozen=True)
class Char(Tokenizer):
    """Every character is a token, kept as it is."""

    def split(self, text):
        """The characters."""
        return text

    def join(self, tokens):
        """The characters in a row."""
        return "".join(tokens)

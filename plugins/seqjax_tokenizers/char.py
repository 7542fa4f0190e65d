"""Characters as tokens."""

from dataclasses import dataclass

from seqjax import Tokenizer, register


@register("tokenizer", "char")
@dataclass(frozen=True)
class Char(Tokenizer):
    """Every character is a token. No character is changed."""

    def split(self, text):
        """The characters."""
        return text

    def join(self, tokens):
        """The characters, joined without separators."""
        return "".join(tokens)

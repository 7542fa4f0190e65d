"""Characters as tokens."""

from dataclasses import dataclass

from seqjax import Tokenizer, register


@register("tokenizer", "char")
@dataclass(frozen=True)
class Char(Tokenizer):
    """Every character is a token. No character is changed."""

    also_called = ("character", "characters", "char-level")

    @property
    def is_of_characters(self):  # type: ignore[override]
        """Whether each character is a token; a subclass may split in another way."""
        return type(self).split is Char.split

    def split(self, text):
        """The characters."""
        return text

    def join(self, tokens):
        """The characters, joined without separators."""
        return "".join(tokens)

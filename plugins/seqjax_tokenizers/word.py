"""Words as tokens."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Tokenizer, register
from seqjax.data import Vocab


@register("tokenizer", "word")
@dataclass(frozen=True)
class Word(Tokenizer):
    """Words are tokens. Words are joined by single spaces.

    Line ends separate words like spaces, and are lost.
    """

    also_called = ("words", "word-level", "whitespace", "basic-english")

    normalize: bool = True
    """True: words are runs of letters with their combining marks, in lower case, and all other characters are left out.
    False: words are the runs of characters between white space, unchanged."""
    min_freq: Annotated[int, Interval(ge=0)] = 0
    """Words that occur less often in the training part are read as `<unk>`."""
    reserved: tuple[str, ...] = ()
    """Tokens that have ids, after the id of `<unk>`, whether they occur or not."""

    def split(self, text):
        """The words, in order."""
        return _letters(text.lower()) if self.normalize else text.split()

    def join(self, tokens):
        """The words with single spaces between them."""
        return " ".join(tokens)

    def fit(self, data):
        """The vocabulary of the words that occur often enough."""
        counted = super().fit(data)
        assert isinstance(counted, Vocab)
        return Vocab.from_tokens(counted.freqs, self.min_freq, self.reserved, self)


def _letters(text):
    """The runs of letters of a text, each letter with the combining marks that follow it."""
    # `re` has no class of combining marks. Few different ones occur in a text, so these are listed in the pattern.
    marks = "".join(c for c in sorted(set(text)) if unicodedata.category(c).startswith("M"))
    letters = r"[^\W\d_]+"
    return re.findall(rf"{letters}(?:[{marks}]+(?:{letters})?)*" if marks else letters, text)

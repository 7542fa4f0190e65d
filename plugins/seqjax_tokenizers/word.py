"""Words as tokens."""

import re
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from seqjax import Tokenizer, register
from seqjax.data import Vocab


@register("tokenizer", "word")
@dataclass(frozen=True)
class Word(Tokenizer):
    """Words are tokens; the text of words has single spaces between them.

    Line ends separate words like spaces do, and are not kept.
    """

    normalize: bool = True
    """True: words are runs of letters, in lower case, and nothing else is kept. False: words are what stands between
    white space, as it is."""
    min_freq: Annotated[int, Interval(ge=0)] = 0
    """Words that occur fewer times in the training split are `<unk>`."""
    reserved: tuple[str, ...] = ()
    """Tokens that have ids, after `<unk>`, whether they occur or not."""

    def split(self, text):
        """The words, in order."""
        return re.findall(r"[^\W\d_]+", text.lower()) if self.normalize else text.split()

    def join(self, tokens):
        """The words with single spaces between them."""
        return " ".join(tokens)

    def fit(self, data):
        """The vocabulary of the words that are frequent enough."""
        counted = super().fit(data)
        assert isinstance(counted, Vocab)
        return Vocab.from_tokens(counted.freqs, self.min_freq, self.reserved, self)

"""Tokens <-> ids."""

import collections
import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqjax.contracts import Tokenizer, Tokens

UNKNOWN = "<unk>"
"""The token with id 0, which stands for every token that is not in the vocabulary."""


@dataclass(frozen=True, eq=False)
class Vocab:
    """A vocabulary: id 0 is `<unk>`, then the reserved tokens, then by falling frequency.

    Ties are broken by first occurrence. Tokens are any hashables: an n-gram vocabulary has tuples, and `vocab[("of",
    "the")]` is the id of one token while `vocab[["of", "the"]]` are the ids of two.

    Args:
        tokens: the token of each id.
        freqs: how often each token occurred in the training text, those below `min_freq` included.
        tokenizer: what `encode` splits a text with and `decode` joins it with; None: into characters.
    """

    tokens: tuple[Hashable, ...]
    freqs: collections.Counter
    tokenizer: Tokenizer | None = None

    @functools.cached_property
    def _ids(self) -> dict[Hashable, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @classmethod
    def from_tokens(
        cls,
        tokens: Iterable[Hashable],
        min_freq: int = 0,
        reserved: Sequence[Hashable] = (),
        tokenizer: Tokenizer | None = None,
    ) -> "Vocab":
        """Counts tokens, unless they are a `Counter`; those fewer than `min_freq` are left to `<unk>`."""
        freqs = collections.Counter(tokens)
        first = dict.fromkeys([UNKNOWN, *reserved])
        kept = (token for token, n in freqs.most_common() if n >= min_freq and token not in first)
        return cls((*first, *kept), freqs, tokenizer)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, tokens: Any) -> Any:
        """The id of a token, or int32 ids of a list of tokens; unknown ones are 0."""
        if isinstance(tokens, list):
            return np.fromiter((self._ids.get(token, 0) for token in tokens), np.int32, len(tokens))
        return self._ids.get(tokens, 0)

    def __contains__(self, token: Hashable) -> bool:
        return token in self._ids

    def to_tokens(self, ids: Any) -> Any:
        """The token of an id, or the list of tokens of several."""
        if np.ndim(ids) == 0:
            return self.tokens[int(ids)]
        return [self.tokens[i] for i in np.asarray(ids).tolist()]

    @property
    def spec(self) -> Tokens:
        """Token ids below `len(self)`."""
        return Tokens(len(self))

    def split(self, text: str) -> list[Hashable]:
        """The tokens of a text."""
        return list(self.tokenizer.split(text) if self.tokenizer else text)

    def encode(self, text: str) -> np.ndarray:
        """Ids int32[n] of a text."""
        return self[self.split(text)]

    def decode(self, ids: Any) -> str:
        """The text of ids."""
        tokens = self.to_tokens(np.atleast_1d(ids))
        return self.tokenizer.join(tokens) if self.tokenizer else "".join(tokens)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"tokens": list(self.tokens), "freqs": [list(pair) for pair in self.freqs.items()]}

    @classmethod
    def from_dict(cls, saved: dict, tokenizer: Tokenizer | None = None) -> "Vocab":
        """The vocabulary whose `to_dict` gave `saved`."""

        def hashable(token):  # JSON has no tuples
            return tuple(map(hashable, token)) if isinstance(token, list) else token

        freqs = collections.Counter({hashable(token): n for token, n in saved["freqs"]})
        return cls(tuple(map(hashable, saved["tokens"])), freqs, tokenizer)

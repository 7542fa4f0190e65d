"""`Tokenizer` and the codecs that it makes, which turn data into the inputs of a model, and back."""

import collections
import functools
import itertools
import sys
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from seqjax.data.dataset import Data, Text
from seqjax.data.spec import Tokens, Values
from seqjax.errors import Error, is_whole
from seqjax.plugin.base import Plugin


@runtime_checkable
class Codec(Protocol):
    """Turns data into the inputs of a model, and back; made by `Tokenizer.fit`."""

    @property
    def spec(self) -> Tokens | Values:
        """The kind of `encode`'s results, as one side of a `Spec`."""

    def encode(self, data: Any) -> np.ndarray:
        """Ids int32[n] of a text, or scaled values float[n, dim] of the values of a series."""

    def decode(self, encoded: Any) -> str | np.ndarray:
        """The text of ids, or the values of a series in its own units."""

    def to_dict(self) -> dict:
        """Plain values for JSON; `Tokenizer.load` turns them back into the codec."""


@runtime_checkable
class TextCodec(Codec, Protocol):
    """A codec between text and ids. Unknown tokens become `<unk>` if the vocabulary has this token."""

    @property
    def tokens(self) -> Sequence[Hashable]:
        """The token of each id."""

    def split(self, text: str) -> Sequence[Hashable]:
        """The tokens of a text, one for each id of `encode`; some may be unknown."""

    def decode(self, encoded: Any) -> str:
        """The text of ids."""

    def __len__(self) -> int:
        """The number of ids."""


@dataclass(frozen=True)
class PairsCodec:
    """The codecs of the two sides of pairs.

    Args:
        inputs: the codec of the inputs; None: they are read as they are.
        targets: the codec of the targets; None: they are predicted as they are.
    """

    inputs: Codec | None
    targets: Codec | None

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {side: codec.to_dict() if codec else None for side, codec in vars(self).items()}


class Tokenizer(Plugin):
    """Splits text into tokens. The author writes `split` and `join`; `fit` then makes a vocabulary.

    A tokenizer whose codec is not a vocabulary overrides `fit` and `load` instead.

    >>> from dataclasses import dataclass
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Commas(sj.Tokenizer):
    ...     def split(self, text):
    ...         return text.split(",")
    ...     def join(self, tokens):
    ...         return ",".join(tokens)
    >>> vocab = Commas().fit(sj.Text("red,green,red"))
    >>> vocab.tokens
    ('<unk>', 'red', 'green')
    >>> vocab.encode("green,red,blue").tolist(), vocab.decode([2, 1])
    ([2, 1, 0], 'green,red')
    """

    kind: ClassVar[str] = "tokenizer"
    is_of_characters: ClassVar[bool] = False
    """Whether `split` returns the text itself, so that each character is a token. Such texts are encoded by tables."""

    def split(self, text: str) -> Sequence[Hashable]:
        """The tokens of a text, in order."""
        raise NotImplementedError

    def join(self, tokens: Any) -> str:
        """The text of tokens: the inverse of `split`."""
        raise NotImplementedError

    def fit(self, data: Data) -> Codec | PairsCodec:
        """The codec, fitted to the training part of a dataset; for pairs it is a `PairsCodec`.

        Raises:
            Error: the tokenizer is for another kind of data.
        """
        if not isinstance(data, Text):
            raise Error(
                f"tokenizer {type(self).__name__} splits text, and the dataset is of type {type(data).__name__}\n"
                "Leave the tokenizer out, or scale values with --tokenizer standardize"
            )
        if self.is_of_characters:
            return Vocab.from_tokens(data.character_counts(), tokenizer=self)
        tokens = itertools.chain.from_iterable(map(self.split, data.documents))
        return Vocab.from_tokens(tokens, tokenizer=self)

    def load(self, saved: dict) -> Codec | PairsCodec:
        """The codec whose `to_dict` gave `saved`."""
        return Vocab.from_dict(saved, tokenizer=self)


UNKNOWN = "<unk>"
"""The token that stands for all unknown tokens; its id is 0."""


@dataclass(frozen=True, eq=False)
class Vocab:
    """A vocabulary: a numbering of tokens, which is a codec of text.

    Id 0 is `<unk>`. The reserved tokens follow, and then the others by falling frequency; ties are in order of first
    occurrence. Any hashable can be a token: in a vocabulary of bigrams `vocab[("of", "the")]` is the id of one token,
    while `vocab[["of", "the"]]` are the ids of two tokens.

    Args:
        tokens: the token of each id.
        freqs: how often each token occurred in the training text, tokens below `min_freq` included.
        tokenizer: splits a text in `encode`, and joins tokens in `decode`; None: tokens are characters.
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
        """The vocabulary of some tokens.

        Args:
            tokens: the tokens of a text; or a `Counter` of them.
            min_freq: tokens that occur less often have no id of their own, and are read as `<unk>`.
            reserved: tokens that have ids whether they occur or not.
            tokenizer: see `Vocab`.
        """
        freqs = collections.Counter(tokens)
        first = dict.fromkeys([UNKNOWN, *reserved])
        kept = (token for token, n in freqs.most_common() if n >= min_freq and token not in first)
        return cls((*first, *kept), freqs, tokenizer)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, tokens: Any) -> Any:
        """The id of a token, or the ids int32[n] of a list of tokens; the id of an unknown token is 0."""
        if isinstance(tokens, list):
            return np.fromiter((self._ids.get(token, 0) for token in tokens), np.int32, len(tokens))
        return self._ids.get(tokens, 0)

    def __contains__(self, token: Hashable) -> bool:
        return token in self._ids

    def to_tokens(self, ids: Any) -> Any:
        """The token of an id, or the list of tokens of several ids."""
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
        if self.is_of_characters:
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            return self.character_ids[points].astype(np.int32)
        return self[self.split(text)]

    @property
    def is_of_characters(self) -> bool:
        """Whether each character of a text is a token."""
        return self.tokenizer is None or self.tokenizer.is_of_characters

    @functools.cached_property
    def character_ids(self) -> np.ndarray:
        """The id of each character, by its number, in the smallest integer type; 0 for unknown ones."""
        ids = np.zeros(sys.maxunicode + 1, np.min_scalar_type(len(self)))
        for token, i in self._ids.items():
            if isinstance(token, str) and len(token) == 1:
                ids[ord(token)] = i
        return ids

    def decode(self, ids: Any) -> str:
        """The text of ids."""
        tokens = self.to_tokens(np.atleast_1d(ids))
        return self.tokenizer.join(tokens) if self.tokenizer else "".join(tokens)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {"tokens": list(self.tokens), "freqs": [list(pair) for pair in self.freqs.items()]}

    @classmethod
    def from_dict(cls, saved: dict, tokenizer: Tokenizer | None = None) -> "Vocab":
        """The vocabulary whose `to_dict` gave `saved`.

        Raises:
            Error, TypeError or LookupError: `saved` is not such a dict.
        """

        def hashable(token):
            # JSON turns tuples into lists.
            return tuple(map(hashable, token)) if isinstance(token, list) else token

        freqs = collections.Counter({hashable(token): n for token, n in saved["freqs"]})
        tokens = tuple(map(hashable, saved["tokens"]))
        # A token of a type such as dict is not hashable, and a bool equals a number.
        strange = [token for token in (*tokens, *freqs) if not isinstance(token, str | int | tuple)]
        if strange or not all(is_whole(n) and n >= 0 for n in freqs.values()) or len({*tokens}) < max(1, len(tokens)):
            raise Error("a vocabulary needs distinct tokens, each a text or a whole number, and the frequency of each")
        return cls(tokens, freqs, tokenizer)


SEEN = 1_000_000
"""The number of ids at the beginning of a stream in which unknown tokens are counted."""


def unknown_share(codec: Any, ids: Int[np.ndarray, " n"]) -> float:
    """The share of unknown tokens among the first `SEEN` ids of a text; 0 if the codec has no `<unk>`."""
    if not isinstance(codec, TextCodec) or len(ids) == 0 or UNKNOWN not in codec.tokens:
        return 0.0
    return float(np.mean(ids[:SEEN] == list(codec.tokens).index(UNKNOWN)))

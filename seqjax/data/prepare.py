"""From a dataset to streams: load, split, fit the tokenizer, encode."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from seqjax.data.dataset import Data, Dataset, Pairs, Series, Text
from seqjax.data.spec import Spec, Tokens, Values
from seqjax.data.split import split
from seqjax.data.stream import Stream, next_stream
from seqjax.data.tokenizer import Codec, TextCodec, Tokenizer
from seqjax.errors import Error
from seqjax.plugin.config import create

DEFAULT_TOKENIZER = "seqjax/char"
"""How a text is split where no tokenizer is named."""


class Prepared(NamedTuple):
    """A dataset made ready.

    Args:
        source: the dataset, whole.
        codec: of its tokenizer; None where it has none: a series as it is, or pairs.
        spec: what a model reads and what it is to give.
        streams: one for each of `PARTS`.
    """

    source: Data
    codec: Codec | None
    spec: Spec
    streams: dict[str, Stream]


def prepare(dataset: Dataset, train: int | float, heldout: int | float, tokenizer: Tokenizer | None) -> Prepared:
    """Loads, splits, fits the tokenizer on the training split alone, encodes."""
    source = dataset.load()
    parts = split(source, train, heldout)
    codec = fit(tokenizer, parts["train"])
    spec = spec_of(source, codec)
    streams = {name: make_stream(part, codec, spec) for name, part in parts.items()}
    return Prepared(source, codec, spec, streams)


def fit(tokenizer: Tokenizer | None, data: Data) -> Codec | None:
    """The codec of the training split; a text without a tokenizer has the default one."""
    tokenizer = resolve_tokenizer(tokenizer, data)
    return tokenizer.fit(data) if tokenizer else None  # type: ignore[arg-type]


def resolve_tokenizer(tokenizer: Tokenizer | None, data: Data) -> Tokenizer | None:
    """The tokenizer of an experiment for such data: for a text, None stands for the default one."""
    if isinstance(data, Pairs) and tokenizer is not None:
        raise Error("pairs hold what a model reads, and take no tokenizer: leave it out")
    return tokenizer or (create("tokenizer", DEFAULT_TOKENIZER) if isinstance(data, Text) else None)


def spec_of(data: Data, codec: Codec | None) -> Spec:
    """What a model of such data reads and what it is to give."""
    if isinstance(data, Pairs):
        assert data.spec is not None
        return data.spec
    return Spec(codec.spec if codec else Values(data.values.shape[1]))  # type: ignore[attr-defined]


def make_stream(data: Data, codec: Codec | None, spec: Spec) -> Stream:
    """What is sampled of a part: of pairs the pairs, else each entry predicts the next one of its document.

    Raises:
        Error: the data are not what a model of this spec reads.
    """
    if not _fits(data, codec, spec):
        raise Error(
            f"a {type(data).__name__} is not what this model reads, which is {spec.inputs} to {spec.targets}"
            + (" of a text" if isinstance(codec, TextCodec) else "")
        )
    if isinstance(data, Pairs):
        return Stream(data.inputs, data.targets, data.bounds, data.mask)
    return next_stream(*encode(data, codec))


def _fits(data, codec, spec):
    if isinstance(data, Text):
        return isinstance(codec, TextCodec)
    if isinstance(data, Series):
        return spec == Spec(Values(data.values.shape[1]))
    sides = ((data.spec.inputs, spec.inputs), (data.spec.targets, spec.targets))
    return codec is None and all(
        type(found) is type(side)
        and (found.width == side.width or (isinstance(found, Tokens) and found.width < side.width))
        for found, side in sides
    )


def encode(data: Data, codec: Codec | None) -> tuple[np.ndarray, Int[np.ndarray, " bounds"]]:
    """Ids of a text or values of a series, and where the documents begin and end among them."""
    if not isinstance(data, Text):
        values = data.values  # type: ignore[attr-defined]
        return (codec.encode(values) if codec else values), data.bounds
    assert codec is not None
    ids = [codec.encode(document) for document in data.documents]
    return np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64)

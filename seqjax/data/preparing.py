"""From a dataset to streams: loads it, splits it, fits the tokenizer, encodes the parts."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from seqjax.data.dataset import Data, Dataset, Pairs, Series, Text
from seqjax.data.id_files import id_stream
from seqjax.data.mapped_text import MappedText
from seqjax.data.spec import Spec, Tokens, Values
from seqjax.data.split import split
from seqjax.data.stream import Stream, next_stream
from seqjax.data.tokenizer import SEEN, UNKNOWN, Codec, PairsCodec, TextCodec, Tokenizer, unknown_share
from seqjax.errors import Error, check_type, quoted, warn
from seqjax.plugin.author import cause
from seqjax.plugin.config import create
from seqjax.plugin.registry import name_of

DEFAULT_TOKENIZER = "seqjax/char"
"""The tokenizer of a text if none is named: characters."""

JOINED = 2000
"""The number of characters at the start of a text on which `join` is compared with `split`."""


class Streams(Mapping[str, Stream]):
    """Streams by name, each of which is made when it is first asked for.

    Most commands do not read the rest, which may be nearly all of a large dataset.

    Args:
        make: name -> function that makes the stream.
    """

    def __init__(self, make: dict[str, Callable[[], Stream]]):
        self._make, self.made = make, dict[str, Stream]()

    def __getitem__(self, name: str) -> Stream:
        if name not in self.made:
            self.made[name] = self._make[name]()
        return self.made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


class Prepared(NamedTuple):
    """A dataset from which windows can be sampled.

    Args:
        sources: all data: of the `dataset`, and of `heldout` if that is a separate dataset.
        codec: the fitted tokenizer; None for data that are read as they are.
        spec: the inputs and outputs of a model of this dataset.
        parts: the data of each of `PARTS`, by name.
        streams: a stream for each of `PARTS`, by name.
    """

    sources: dict[str, Data]
    codec: Codec | PairsCodec | None
    spec: Spec
    parts: dict[str, Any]
    streams: Streams

    @property
    def source(self) -> Data:
        """The whole dataset, of which the training part is a part."""
        return self.sources["dataset"]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {len(stream.inputs):,} steps" for name, stream in self.streams.made.items())
        codec = type(self.codec).__name__ if self.codec else None
        return f"Prepared({self.source!r}, codec={codec}, spec={self.spec!r}, {sizes})"


def prepare(
    dataset: Dataset,
    train: int | float,
    heldout: int | float | Dataset,
    tokenizer: Tokenizer | None,
    codec: Codec | PairsCodec | None = None,
) -> Prepared:
    """Loads and splits a dataset, fits the tokenizer on the training part, and encodes all parts except the rest.

    It warns if the held-out part is equal to the training part, or if a separate held-out dataset has tokens that the
    vocabulary lacks.

    Args:
        dataset: where the data comes from.
        train: the size of the training part, as `split` takes it.
        heldout: the size of the held-out part; or a dataset that is held out, whole.
        tokenizer: None: `DEFAULT_TOKENIZER` for a text, none for other data.
        codec: a codec that was fitted before, which is used instead of a new one.

    Raises:
        Error: the dataset is too short for these sizes; the tokenizer is for another kind of data; a model of the
            dataset cannot read the held-out dataset, or knows none of its tokens.
    """
    check_type("codec", codec, Codec | PairsCodec | None, "the codec of an earlier run, run.codec, or None")
    sources = load_all(dataset, heldout)
    source = sources["dataset"]
    parts = split(source, train, 0 if "heldout" in sources else heldout)  # type: ignore[arg-type]
    if "heldout" in sources:
        parts["heldout"] = sources["heldout"]
    tokenizer = resolve_tokenizer(tokenizer, source)
    if codec is None and tokenizer is not None:
        codec = fit(tokenizer, parts["train"])
    spec = spec_of(source, codec)
    streams = Streams({name: partial(make_stream, part, codec, spec) for name, part in parts.items()})
    for name in ("train", "heldout"):
        streams[name]  # raises its errors before training
    if "heldout" in sources:
        check_known(sources["heldout"], codec)
    if len(parts["heldout"]) == len(parts["train"]) and parts["heldout"] == parts["train"]:
        warn("the held-out part is equal to the training part, so that its loss says nothing about other data")
    return Prepared(sources, codec, spec, parts, streams)


def load_all(dataset: Dataset, heldout: int | float | Dataset) -> dict[str, Data]:
    """The data of the `dataset`, and of `heldout` if that is a separate dataset."""
    own = {"heldout": heldout} if isinstance(heldout, Dataset) else {}
    return {name: load(source) for name, source in {"dataset": dataset, **own}.items()}


def load(dataset: Dataset) -> Data:
    """All data of a dataset.

    Raises:
        Error: `load` raises another exception, or returns something else.
    """
    data = dataset.load()
    if not isinstance(data, Data):
        raise Error(
            f"dataset {name_of(dataset)}: load returned {type(data).__name__}, and must return data, such as "
            "seqjax.Text(text), seqjax.Series(values) or seqjax.Pairs(inputs, targets)"
        )
    return data


def fit(tokenizer: Tokenizer, data: Data) -> Codec | PairsCodec:
    """The codec of a tokenizer, fitted to the training part of a dataset.

    Raises:
        Error: the tokenizer is for another kind of data; `fit`, `split` or `join` raises another exception; `fit`
            returns something else; `join` is not the inverse of `split`.
    """
    name = f"tokenizer {name_of(tokenizer)}"
    if isinstance(data, Text) and type(tokenizer).join is not Tokenizer.join:
        check_join(tokenizer, data[:JOINED].text)
    codec = tokenizer.fit(data)
    kinds = {
        Text: (TextCodec, "a codec, which has spec, tokens, split, encode, decode, to_dict and a length"),
        Series: (Codec, "a codec, which has spec, encode, decode and to_dict"),
        Pairs: (PairsCodec, "a seqjax.data.PairsCodec"),
    }
    expected, needs = next(kinds[kind] for kind in kinds if isinstance(data, kind))
    if not isinstance(codec, expected):
        raise Error(f"{name}: fit returned {type(codec).__name__}, and must return {needs}")
    return codec


def load_codec(tokenizer: Tokenizer, saved: Any) -> Codec | PairsCodec:
    """Restores the codec of a tokenizer from `saved`, the result of its `to_dict`.

    Raises:
        ValueError: `load` raises an exception, since the saved codec may be damaged, or returns something else.
    """
    try:
        codec = tokenizer.load(saved)
        kind = codec.spec if isinstance(codec, Codec) else None
    except Exception as fault:
        raise ValueError(f"tokenizer {name_of(tokenizer)}: load raises {cause(tokenizer, fault)}") from fault
    if kind is None and not isinstance(codec, PairsCodec):
        raise ValueError(f"tokenizer {name_of(tokenizer)}: load returned {type(codec).__name__}, which is no codec")
    return codec


def check_join(tokenizer: Tokenizer, text: str) -> None:
    """Checks that joined tokens are split into the same tokens again.

    Raises:
        Error: they are not.
    """
    tokens = _split(tokenizer, text)
    joined = tokenizer.join(tokens)
    if not isinstance(joined, str):
        raise Error(f"tokenizer {name_of(tokenizer)}: join returned {type(joined).__name__}, and must return a string")
    again = _split(tokenizer, joined)
    if again != tokens:
        n = next((i for i, (a, b) in enumerate(zip(again or (), tokens, strict=False)) if a != b), 0)
        raise Error(
            f"tokenizer {name_of(tokenizer)}: join is not the inverse of split: the tokens {tokens[n : n + 3]!r:.80} "
            f"are joined to {tokenizer.join(tokens[n : n + 3])!r:.80}, which is split into other tokens\n"
            "join(tokens) must return a text that split turns into the same tokens, so that what a model generates can "
            "be read"
        )


def _split(tokenizer: Tokenizer, text: str) -> list:
    """The tokens of a text, checked."""
    tokens = tokenizer.split(text)
    if not isinstance(tokens, str | list | tuple):
        returned = type(tokens).__name__
        raise Error(f"tokenizer {name_of(tokenizer)}: split returned {returned}, and must return a list of tokens")
    strange = [token for token in tokens if not isinstance(token, str | int | tuple)]
    if strange:
        returned = type(strange[0]).__name__
        raise Error(
            f"tokenizer {name_of(tokenizer)}: split returned a token of type {returned}; a token is a str or an int"
        )
    return list(tokens)


def resolve_tokenizer(tokenizer: Tokenizer | None, data: Data) -> Tokenizer | None:
    """The tokenizer that is used for these data: the given one, or for a text without one the default one."""
    return tokenizer or (create("tokenizer", DEFAULT_TOKENIZER) if isinstance(data, Text) else None)


def spec_of(data: Data, codec: Codec | PairsCodec | None) -> Spec:
    """The inputs and outputs of a model of these data."""
    if isinstance(data, Pairs):
        assert data.spec is not None
        return data.spec
    assert not isinstance(codec, PairsCodec)
    return Spec(codec.spec if codec else Values(data.values.shape[1]))  # type: ignore[attr-defined]


def make_stream(data: Data, codec: Codec | PairsCodec | None, spec: Spec) -> Stream:
    """The stream of some data. Pairs have inputs and targets; of other data each entry predicts the next one.

    Args:
        data: a part of a dataset, or data of the same kind.
        codec: the fitted tokenizer, if any.
        spec: the inputs and outputs of the model that reads the stream.

    Raises:
        Error: the model cannot read such data, or a number in them is too large for JAX's precision.
    """
    if not _fits(data, codec, spec):
        raise Error(
            f"this model reads {spec.inputs} and predicts {spec.targets}"
            + (" of a text" if isinstance(codec, TextCodec) else "")
            + f"; it cannot read this {type(data).__name__}"
        )
    if isinstance(data, Pairs):
        inputs, targets = (_encoded(data, side, codec and getattr(codec, side)) for side in ("inputs", "targets"))
        return Stream(inputs, targets, data.bounds, data.mask)
    if isinstance(data, MappedText):
        assert isinstance(codec, TextCodec)  # `_fits` has checked it
        return id_stream(data, codec)
    return next_stream(*encode(data, codec))  # type: ignore[arg-type]


def check_known(data: Data, codec: Codec | PairsCodec | None) -> None:
    """Warns about the share of a text that is unknown to a vocabulary, among its first `SEEN` characters.

    Args:
        data: data that were not used to fit the codec; nothing is checked unless they are a text.
        codec: the codec that reads them.

    Raises:
        Error: all of these characters are unknown.
    """
    if not isinstance(data, Text) or not isinstance(codec, TextCodec):
        return
    share, name = unknown_share(codec, codec.encode(data[:SEEN].text)), data.source or "the text"
    if share == 1:
        among = f" among its first {SEEN:,} characters" if len(data) > SEEN else ""
        known = [token for token in codec.tokens if token != UNKNOWN]
        raise Error(
            f"{name} has no token of the vocabulary of the run{among}, so that a model would read {UNKNOWN} alone\n"
            f"Choose a text of the same kind as the training text, whose tokens are {quoted(map(str, known))}"
        )
    if share:
        warn(f"{share:.2%} of {name} is unknown to the vocabulary of the run")


def _encoded(data: Data, side: str, codec: Any) -> np.ndarray:
    """A side of some data, as the codec encodes it; an `Error` if a number becomes infinite in JAX's precision."""
    values = getattr(data, side)
    encoded = values if codec is None else codec.encode(values)
    limits = jnp.finfo(jnp.result_type(float))
    if encoded.dtype.kind == "f" and encoded.size and max(encoded.max(), -encoded.min()) > limits.max:
        row, column = np.unravel_index(np.abs(encoded).argmax(), encoded.shape)
        name = repr(data.names[column]) if isinstance(data, Series) and data.names else column
        raise Error(
            f"{data.source or type(data).__name__}: {values[row, column]:g} in column {name} of its {side} is too "
            f"large: models compute in {limits.dtype}, whose largest number is {limits.max:.2g}\n"
            "Scale the numbers down, as --tokenizer standardize does, or compute in float64: set JAX_ENABLE_X64=1"
        )
    return encoded


def _fits(data: Any, codec: Codec | PairsCodec | None, spec: Spec) -> bool:
    """Whether a model of this spec can read the data; it may have more tokens than the data."""
    if isinstance(data, Text):
        return isinstance(codec, TextCodec)
    if isinstance(data, Series):
        return spec == Spec(Values(data.values.shape[1]))
    sides = ((data.spec.inputs, spec.inputs), (data.spec.targets, spec.targets))
    return isinstance(codec, PairsCodec | None) and all(
        type(given) is type(side)
        and (given.width == side.width or (isinstance(given, Tokens) and given.width < side.width))
        for given, side in sides
    )


def encode(data: Data, codec: Codec | None) -> tuple[np.ndarray, Int[np.ndarray, " bounds"]]:
    """The ids of a text or the values of a series, and int64[D + 1], where documents begin and end among them."""
    if not isinstance(data, Text):
        return _encoded(data, "values", codec), data.bounds
    assert codec is not None
    ids = [codec.encode(document) for document in data.documents]
    return np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64)

"""`Stream`: what is sampled, inputs beside the targets that follow them."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from seqjax.errors import Error


class Stream(NamedTuple):
    """What is sampled: `targets[t]` is predicted after reading `inputs[t]`.

    `bounds` int64[D + 1] are where documents begin and end: no window crosses one. `mask` bool[n], if any, is False
    where a target is not scored.
    """

    inputs: Any
    targets: Any
    bounds: Any
    mask: Any = None


def next_stream(values: np.ndarray, bounds: Int[np.ndarray, " bounds"]) -> Stream:
    """The stream of a model that goes on by itself: each entry predicts the next one of its document."""
    inside = np.ones(len(values), bool)
    lengths = np.diff(bounds)
    inside[bounds[1:][lengths > 0] - 1] = False  # a document's last entry predicts nothing
    (at,) = np.nonzero(inside)
    lengths = np.maximum(lengths - 1, 0)
    return Stream(values[at], values[at + 1], np.cumsum([0, *lengths], dtype=np.int64))


def check_stream(stream: Stream) -> Stream:
    """The stream with its bounds as int64[D + 1]."""
    bounds = np.asarray(stream.bounds, np.int64)
    sizes = {name: len(side) for name, side in stream._asdict().items() if name != "bounds" and side is not None}
    if len(set(sizes.values())) != 1 or bounds.ndim != 1 or bounds[0] != 0 or (np.diff(bounds) < 0).any():
        raise Error(f"a stream's sides must have one length, and its bounds rise from 0: {sizes}, {bounds}")
    if bounds[-1] != sizes["inputs"]:
        raise Error(f"a stream's bounds must end at its length, {sizes['inputs']:,}; they end at {bounds[-1]:,}")
    return stream._replace(bounds=bounds)

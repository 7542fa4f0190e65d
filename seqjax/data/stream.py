"""`Stream`: the inputs of a model beside its targets, from which windows are sampled."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from seqjax.errors import Error


class Stream(NamedTuple):
    """Inputs and targets of n time steps: `targets[t]` is predicted after `inputs[t]` was read.

    Args:
        inputs: int[n] ids, or float[n, dim].
        targets: the same.
        bounds: int64[D + 1], where the documents begin and end; no window crosses a bound.
        mask: bool[n], False where a target is not scored; None: all targets are scored.
    """

    inputs: Any
    targets: Any
    bounds: Any
    mask: Any = None

    @property
    def like(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the input and the target of one step."""
        return tuple(jax.eval_shape(jnp.asarray, side[0]) for side in (self.inputs, self.targets))


def next_stream(values: np.ndarray, bounds: Int[np.ndarray, " bounds"]) -> Stream:
    """The stream in which each entry predicts the next entry of its document.

    Args:
        values: ids int[n] or values float[n, dim].
        bounds: int64[D + 1], where the documents begin and end among them.
    """
    is_input = np.ones(len(values), bool)
    lengths = np.diff(bounds)
    is_input[bounds[1:][lengths > 0] - 1] = False  # nothing follows the last entry of a document
    (at,) = np.nonzero(is_input)
    lengths = np.maximum(lengths - 1, 0)
    return Stream(values[at], values[at + 1], np.cumsum([0, *lengths], dtype=np.int64))


def check_stream(stream: Stream) -> Stream:
    """The stream with its bounds as int64[D + 1].

    Raises:
        Error: it is not a `Stream`; sides of different lengths; bounds that do not rise from 0 to this length.
    """
    if not isinstance(stream, Stream):
        raise Error(f"the data must be a seqjax.data.Stream(inputs, targets, bounds), not {stream!r:.80}")
    bounds = np.asarray(stream.bounds, np.int64)
    sizes = {name: len(side) for name, side in stream._asdict().items() if name != "bounds" and side is not None}
    rise_from_0 = bounds.ndim == 1 and bounds.size > 0 and bounds[0] == 0 and (np.diff(bounds) >= 0).all()
    if len(set(sizes.values())) != 1 or not rise_from_0:
        raise Error(f"a stream's sides must have equal lengths, and its bounds must rise from 0: {sizes}, {bounds}")
    if bounds[-1] != sizes["inputs"]:
        raise Error(f"a stream's bounds must end at its length, {sizes['inputs']:,}; they end at {bounds[-1]:,}")
    return stream._replace(bounds=bounds)

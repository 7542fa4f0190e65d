"""Checkpoints of a run: one file each, with all that training needs to continue. The manifest has their hashes."""

import re
from typing import NamedTuple

import jax
import numpy as np
from pydantic import TypeAdapter

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.problem import Params
from seqjax.runs.files.arrays import by_name, is_key, leaf_name, load_arrays, save_arrays
from seqjax.runs.files.folder import CHECKPOINTS, from_json
from seqjax.runs.files.rows import Counted
from seqjax.training.epoch import TrainState
from seqjax.training.progress import Progress

NAME = re.compile(r"\d{10}\.safetensors")
"""The form of the name of a checkpoint in its folder."""
_PROGRESS, _BEST, _PARAMS = "progress/", "best/", "params/"
"""What the names of arrays begin with: updates of the epoch, parameters of the best epoch, parameters."""


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Args:
        arrays: the leaves of the train state by name.
        progress: how far training had come.
        rows: the rows of the metrics that came before it.
        best: the parameters of the best epoch by name; empty if they are not kept.
    """

    arrays: dict[str, np.ndarray]
    progress: Progress
    rows: Counted
    best: dict[str, np.ndarray]

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The parameters alone, by name."""
        return _below(_PARAMS, self.arrays)


class _Header(NamedTuple):
    """The header of the file of a checkpoint: its rows, and its progress without the updates."""

    rows: Counted
    epoch: int
    done: bool
    compile_seconds: float
    epoch_seconds: float
    tokens: int
    seconds: float


_HEADER = TypeAdapter(_Header)


def checkpoint_name(update: int) -> str:
    """The name of the checkpoint after this update."""
    return f"{CHECKPOINTS}/{update:010}.safetensors"


def encode(state: TrainState, progress: Progress, rows: Counted, best: Params = None) -> bytes:
    """The bytes of a checkpoint; `best`: the parameters of the best epoch, if they are kept."""
    arrays = by_name(state) | {_PROGRESS + name: values for name, values in progress.updates.items()}
    arrays |= {_BEST + name: array for name, array in ({} if best is None else by_name(best)).items()}
    scalars = {name: value for name, value in progress._asdict().items() if name != "updates"}
    return save_arrays(arrays, _Header(rows, **scalars)._asdict())


def decode(data: bytes) -> Checkpoint:
    """The checkpoint of these bytes."""
    arrays, text = load_arrays(data)
    header = from_json(_HEADER, text)
    updates = _below(_PROGRESS, arrays)
    progress = Progress(updates=updates, **{n: v for n, v in header._asdict().items() if n != "rows"})
    state = {name: array for name, array in arrays.items() if not name.startswith((_PROGRESS, _BEST))}
    return Checkpoint(state, progress, header.rows, _below(_BEST, arrays))


def plain_forms(state: TrainState) -> dict[str, str]:
    """The dtype and shape of each array that `by_name` returns, from arrays or from their shapes and dtypes."""
    leaves = {leaf_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}
    plain = {name: jax.eval_shape(jax.random.key_data, a) if is_key(a) else a for name, a in leaves.items()}
    return {name: dtype_shape(a) for name, a in plain.items()}


def restore(
    arrays: dict[str, np.ndarray],
    like: TrainState,
    text: str = "the checkpoint does not fit this experiment; train in another folder:",
) -> TrainState:
    """The train state whose leaves `by_name` returned.

    Args:
        arrays: the leaves by name.
        like: a train state of the same structure, or its shapes and dtypes.
        text: the first line of the error.

    Raises:
        Error: exit code 4: there are other leaves, or leaves of other shapes or dtypes.
    """
    expected = plain_forms(like)
    there = {name: dtype_shape(array) for name, array in arrays.items()}
    problems = [
        f"{name}: it has {there.get(name, 'nothing')}, and needs {expected.get(name, 'nothing')}"
        for name in {**expected, **there}
        if there.get(name) != expected.get(name)
    ]
    if problems:
        raise Error(text, problems=problems, exit_code=4)

    def leaf(keys, like):
        value = jax.numpy.asarray(arrays[leaf_name(keys)])
        if not is_key(like):
            return value
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(jax.numpy.empty((), like.dtype)))

    return jax.tree_util.tree_map_with_path(leaf, like)


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

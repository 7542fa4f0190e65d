"""Checkpoints of a run: one file each, with all that training needs to continue. The manifest has their hashes."""

import re
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter

from seqjax.array_files.arrays import by_name, load_arrays, save_arrays
from seqjax.array_files.saved_file import from_json
from seqjax.gradients.contract.problem import Params
from seqjax.runs.files.folder import CHECKPOINTS
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


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

"""Checkpoints of a run under way: one file each, with its sha256 in its name.

A file is written to a temporary name, synced, renamed, and then the folder is synced, so that a kill at any moment
leaves the file before it untouched, and a damaged one is known by its name.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError

from seqjax.contracts import Params
from seqjax.epoch import TrainState
from seqjax.errors import Error
from seqjax.folder import (
    CHECKPOINTS,
    METRICS,
    PART,
    disk_errors,
    leaf_name,
    load_arrays,
    params_of,
    read,
    save_arrays,
    sync,
    write,
)
from seqjax.train import Progress

KEPT = 2
"""How many checkpoints are kept: the newest, and the one before it."""

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.safetensors")


class Checkpoint(NamedTuple):
    """What a checkpoint holds: the leaves of the train state by name, the progress, and the codec's text."""

    arrays: dict[str, np.ndarray]
    progress: Progress
    codec: str

    def params(self, like: Params) -> Params:
        """The parameters alone, in the structure of `like`."""
        parts = {name.removeprefix("params/"): a for name, a in self.arrays.items() if name.startswith("params/")}
        return params_of(parts, like)


def save(run: Path, state: TrainState, progress: Progress, codec: str) -> None:
    """Writes a checkpoint of the run in this folder, then deletes those before the last `KEPT`."""
    arrays = {leaf_name(keys): _plain(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}
    updates = progress.updates or {}
    arrays |= {f"progress/{name}": values for name, values in updates.items()}
    scalars = progress._asdict() | {"updates": sorted(updates)}
    data = save_arrays(arrays, {"progress": scalars, "codec": codec})
    with disk_errors(run):
        (run / CHECKPOINTS).mkdir(exist_ok=True)
        sync(run / METRICS)  # the rows up to here
    write(run / CHECKPOINTS / f"{int(state.update):010}-{hashlib.sha256(data).hexdigest()}.safetensors", data)
    with disk_errors(run):
        for old in [*_files(run)[KEPT:], *_parts(run)]:
            old.unlink()


def newest(run: Path) -> Checkpoint | None:
    """The newest checkpoint of the run in this folder, if there is one.

    Raises:
        Error: exit code 4: it is damaged; names it and the newest one that is not.
    """
    files = _files(run)
    if not files:
        return None
    data = _read(files[0])
    if data is not None:
        return data
    good = next((file for file in files[1:] if _read(file)), None)
    then = f"training goes on from {good.name}, at update {int(good.name[:10]):,}" if good else "training starts anew"
    raise Error(
        f"{files[0]} is damaged, or of another version of seqjax\n"
        f"Delete it and type the same command again: {then}, and comes to the same result",
        exit_code=4,
    )


def restore(checkpoint: Checkpoint, like: TrainState) -> TrainState:
    """The train state of a checkpoint, in the structure of `like`.

    Raises:
        Error: exit code 4: it has other leaves, or leaves of other shapes or dtypes.
    """
    leaves = {leaf_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(like)}
    expected = {name: _form(_plain(leaf)) for name, leaf in leaves.items()}
    found = {name: _form(array) for name, array in checkpoint.arrays.items()}
    problems = [
        f"{name}: it has {found.get(name, 'nothing')}, and needs {expected.get(name, 'nothing')}"
        for name in {**expected, **found}
        if found.get(name) != expected.get(name)
    ]
    if problems:
        raise Error("the checkpoint does not fit this recipe; train in another folder:", problems=problems, exit_code=4)

    def leaf(keys, like):
        value = jax.numpy.asarray(checkpoint.arrays[leaf_name(keys)])
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(like)) if _is_key(like) else value

    return jax.tree_util.tree_map_with_path(leaf, like)


def delete_all(run: Path) -> None:
    """Deletes the checkpoints of a run that is finished."""
    with disk_errors(run):
        for file in [*_files(run), *_parts(run)]:
            file.unlink()
        if (run / CHECKPOINTS).is_dir() and not os.listdir(run / CHECKPOINTS):
            (run / CHECKPOINTS).rmdir()


def _files(run: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = (run / CHECKPOINTS).iterdir() if (run / CHECKPOINTS).is_dir() else ()
    return sorted((file for file in found if _NAME.fullmatch(file.name)), reverse=True)


def _parts(run: Path) -> list[Path]:
    """What kills have left of checkpoints that were being written."""
    return [file for file in (run / CHECKPOINTS).glob(f"*{PART}") if _NAME.fullmatch(file.name.removesuffix(PART))]


def _read(file: Path) -> Checkpoint | None:
    """The checkpoint in a file; None if it is not what was written."""
    data = read(file, bytes)
    if hashlib.sha256(data).hexdigest() != file.name[11:75]:
        return None
    try:
        arrays, header = load_arrays(data)
        scalars = header["progress"]
        updates = {name: arrays.pop(f"progress/{name}") for name in scalars["updates"]}
        return Checkpoint(arrays, Progress(**scalars | {"updates": updates or None}), header["codec"])
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError):
        return None  # the right hash of something else


def _is_key(leaf: jax.Array) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: jax.Array) -> np.ndarray:
    """A leaf as numpy; of a key its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"

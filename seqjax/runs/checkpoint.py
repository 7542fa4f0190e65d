"""Checkpoints of a run under way: one file each, with its sha256 in its name.

A file is written to a temporary name, synced, renamed, and then the folder is synced, so that a kill at any moment
leaves the file before it untouched, and a damaged one is known by its name.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError

from seqjax.errors import Error
from seqjax.files import PART, disk_errors, sync, write
from seqjax.gradients.problem import Params
from seqjax.runs.arrays import as_tree, leaf_name, load_arrays, save_arrays
from seqjax.runs.folder import CHECKPOINTS, METRICS, check_binding, read
from seqjax.training.epoch import TrainState
from seqjax.training.loop import Progress

KEPT = 2
"""How many checkpoints are kept: the newest, and the one before it."""

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.safetensors")


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Args:
        arrays: the leaves of the train state by name.
        progress: how far training had come.
        bound: the hashes of the files of the run that it belongs to.
    """

    arrays: dict[str, np.ndarray]
    progress: Progress
    bound: dict[str, str]

    def params(self, like: Params | None) -> Params:
        """The parameters alone, in the structure of `like`."""
        parts = {name.removeprefix("params/"): a for name, a in self.arrays.items() if name.startswith("params/")}
        return as_tree(parts, like)


def save(run: Path, state: TrainState, progress: Progress, bound: dict[str, str]) -> None:
    """Writes a checkpoint of the run in this folder, then deletes those before the last `KEPT`."""
    arrays = {leaf_name(keys): _plain(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}
    updates = progress.updates or {}
    arrays |= {f"progress/{name}": values for name, values in updates.items()}
    scalars = progress._asdict() | {"updates": sorted(updates)}
    data = save_arrays(arrays, {"progress": scalars, "binding": bound})
    with disk_errors(run):
        _folder(run).mkdir(exist_ok=True)
        sync(run / METRICS)  # the rows up to here
    write(_folder(run) / f"{int(state.update):010}-{hashlib.sha256(data).hexdigest()}.safetensors", data)
    with disk_errors(run):
        for old in [*_files(run)[KEPT:], *_parts(run)]:
            old.unlink()


def newest(run: Path) -> Checkpoint | None:
    """The newest checkpoint of the run in this folder, if there is one.

    Raises:
        Error: exit code 4: it is damaged (names it and the newest one that is not), or it is of another run.
    """
    files = _files(run)
    if not files:
        return None
    found = _read(files[0])
    if found is None:
        good = next((file for file in files[1:] if _read(file)), None)
        then = (
            f"training goes on from {good.name}, at update {int(good.name[:10]):,}" if good else "training starts anew"
        )
        raise Error(
            f"{files[0]} is damaged, or of another version of seqjax\n"
            f"Delete it and type the same command again: {then}, and comes to the same result",
            exit_code=4,
        )
    check_binding(run, found.bound, f"{CHECKPOINTS}/{files[0].name[:10]}")
    return found


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
        text = "the checkpoint does not fit this experiment; train in another folder:"
        raise Error(text, problems=problems, exit_code=4)

    def leaf(keys, like):
        value = jax.numpy.asarray(checkpoint.arrays[leaf_name(keys)])
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(like)) if _is_key(like) else value

    return jax.tree_util.tree_map_with_path(leaf, like)


def delete_all(run: Path) -> None:
    """Deletes the checkpoints of a run that is finished."""
    with disk_errors(run):
        for file in [*_files(run), *_parts(run)]:
            file.unlink()
        if _folder(run).is_dir() and not os.listdir(_folder(run)):
            _folder(run).rmdir()


def _folder(run: Path) -> Path:
    """The folder of the checkpoints, which is not behind a link: files elsewhere are neither written nor deleted."""
    found = run / CHECKPOINTS
    if found.is_symlink():
        raise Error(f"{found} is a link, and is left as it is; remove it, or choose another folder", exit_code=4)
    return found


def _files(run: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = _folder(run).iterdir() if _folder(run).is_dir() else ()
    return sorted((file for file in found if _NAME.fullmatch(file.name)), reverse=True)


def _parts(run: Path) -> list[Path]:
    """What kills have left of checkpoints that were being written."""
    return list(_folder(run).glob(f"*{PART}"))


def _read(file: Path) -> Checkpoint | None:
    """The checkpoint in a file; None if it is not what was written."""
    data = read(file, bytes)
    if hashlib.sha256(data).hexdigest() != file.name[11:75]:
        return None
    try:
        arrays, header = load_arrays(data)
        scalars = header["progress"]
        updates = {name: arrays.pop(f"progress/{name}") for name in scalars["updates"]}
        return Checkpoint(arrays, Progress(**scalars | {"updates": updates or None}), header["binding"])
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError):
        return None  # the right hash of something else


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as numpy; of a key its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"

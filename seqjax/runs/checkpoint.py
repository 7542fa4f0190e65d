"""Checkpoints of a run, and the last state of a finished one: one file each, with its sha256 in its name.

A file is written under a temporary name, synced and renamed, and then the folder is synced. A kill at any moment leaves
the previous checkpoint untouched, and the hash in the name reveals a damaged file.
"""

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError

from seqjax.errors import Error, dtype_shape
from seqjax.files import PART, disk_errors, make_folder, sync, write
from seqjax.gradients.problem import Params
from seqjax.runs.arrays import as_tree, leaf_name, load_arrays, save_arrays
from seqjax.runs.binding import check_binding
from seqjax.runs.folder import CHECKPOINTS, METRICS, inner_folder, read
from seqjax.training.epoch import TrainState
from seqjax.training.loop import Progress

KEPT = 2
"""The number of checkpoints that are kept: the newest and the previous one."""

_NAME = re.compile(r"(\d{10})-([0-9a-f]{64})\.safetensors")


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Args:
        arrays: the leaves of the train state by name.
        progress: how far training had come.
        bound: the hashes of files of its run, as `binding` gives them.
    """

    arrays: dict[str, np.ndarray]
    progress: Progress
    bound: dict[str, str]

    def params(self, like: Params | None) -> Params:
        """The parameters alone, in the structure of `like`."""
        parts = {name.removeprefix("params/"): a for name, a in self.arrays.items() if name.startswith("params/")}
        return as_tree(parts, like)


def encode(state: TrainState, progress: Progress, bound: dict[str, str]) -> bytes:
    """The bytes of a checkpoint."""
    arrays = {leaf_name(keys): _plain(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}
    updates = progress.updates or {}
    arrays |= {f"progress/{name}": values for name, values in updates.items()}
    scalars = progress._asdict() | {"updates": sorted(updates)}
    return save_arrays(arrays, {"progress": scalars, "binding": bound})


def decode(data: bytes) -> Checkpoint:
    """The checkpoint of these bytes."""
    arrays, header = load_arrays(data)
    scalars = header["progress"]
    updates = {name: arrays.pop(f"progress/{name}") for name in scalars["updates"]}
    progress = Progress(**scalars | {"updates": updates or None})
    kinds = {name: type(value) for name, value in Progress()._asdict().items() if name != "updates"}
    forms = {(array.ndim, array.dtype, len(array)) for array in updates.values()}
    if any(type(getattr(progress, name)) is not kind for name, kind in kinds.items()) or len(forms) > 1:
        raise ValueError("its progress has entries of other types")
    return Checkpoint(arrays, progress, header["binding"])


def save(run: Path, state: TrainState, progress: Progress, bound: dict[str, str]) -> None:
    """Writes a checkpoint of the run in this folder, then deletes all but the newest `KEPT`."""
    data = encode(state, progress, bound)
    try:
        with disk_errors(run):
            make_folder(_folder(run))
            sync(run / METRICS)  # a checkpoint relies on the rows before it
        write(_folder(run) / f"{int(state.update):010}-{hashlib.sha256(data).hexdigest()}.safetensors", data)
    except Error:
        with contextlib.suppress(OSError):
            (run / CHECKPOINTS).rmdir()  # if it is empty
        raise
    with disk_errors(run):
        for old in [*_files(run)[KEPT:], *_parts(run)]:
            old.unlink()


def newest(run: Path, check: bool = True) -> Checkpoint | None:
    """The newest checkpoint of the run in this folder, if there is one.

    Args:
        run: the folder.
        check: whether it must belong to the run.

    Raises:
        Error: exit code 4: it is damaged (the message names the newest intact one), or it belongs to another run.
    """
    files = _files(run)
    found = _read(files[0]) if files else None
    # A process that trains the run deletes old checkpoints, perhaps between the two lines above.
    while files and not found and not files[0].exists():
        files = _files(run)
        found = _read(files[0]) if files else None
    if not files:
        return None
    if found is None:
        good = next((file for file in files[1:] if _read(file)), None)
        then = (
            f"training resumes from {good.name}, at update {int(good.name[:10]):,}" if good else "training starts anew"
        )
        raise Error(
            f"{files[0]} is damaged, or was written by another version of seqjax\n"
            f"Delete it and type the same command again: {then}, and gives the same result",
            exit_code=4,
        )
    if check:
        check_binding(run, found.bound, f"{CHECKPOINTS}/{files[0].name[:10]}")
    return found


def check_all(run: Path, check: bool = True) -> dict[str, str]:
    """Checks the hash and the content of every checkpoint of the run in a folder.

    Args:
        run: the folder.
        check: whether they must belong to the run.

    Returns:
        The name of each checkpoint -> what is wrong with it; empty if nothing is.
    """
    found = {}
    for file in _files(run):
        kept, name = _read(file), f"{CHECKPOINTS}/{file.name}"
        if kept is None and not file.exists():  # the process that trains the run has deleted it
            continue
        found[name] = "" if kept else "its content is not what its name says"
        if kept and check:
            try:
                check_binding(run, kept.bound, name)
            except Error as fault:
                found[name] = str(fault)
    return found


def restore(checkpoint: Checkpoint, like: TrainState) -> TrainState:
    """The train state of a checkpoint, in the structure of `like`.

    Raises:
        Error: exit code 4: it has other leaves, or leaves of other shapes or dtypes.
    """
    leaves = {leaf_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(like)}
    expected = {name: dtype_shape(_plain(leaf)) for name, leaf in leaves.items()}
    found = {name: dtype_shape(array) for name, array in checkpoint.arrays.items()}
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


def prune(run: Path) -> None:
    """Deletes the checkpoints of a run that is finished, but for its last state, with which more epochs can follow."""
    with disk_errors(run):
        for file in [*_files(run)[1:], *_parts(run)]:
            file.unlink()


def remove_parts(run: Path) -> None:
    """Removes incomplete checkpoints that a kill has left. The caller must hold the lock of the run."""
    with disk_errors(run):
        for file in _parts(run):
            file.unlink()


def is_pruned(run: Path) -> bool:
    """Whether `prune` would delete nothing."""
    return len(_files(run)) <= 1 and not _parts(run)


def _folder(run: Path) -> Path:
    return inner_folder(run, CHECKPOINTS)


def _files(run: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    found = _folder(run).iterdir() if _folder(run).is_dir() else ()
    return sorted((file for file in found if _NAME.fullmatch(file.name)), reverse=True)


def _parts(run: Path) -> list[Path]:
    """The incomplete files of checkpoints that a kill has left."""
    return list(_folder(run).glob(f"*{PART}"))


def _read(file: Path) -> Checkpoint | None:
    """The checkpoint in a file; None if the file is damaged or was deleted."""
    try:
        data = read(file, bytes)
    except Error:
        if file.exists():
            raise
        return None
    if hashlib.sha256(data).hexdigest() != file.name[11:75]:
        return None
    try:
        found = decode(data)
        return found if int(found.arrays["update"]) == int(file.name[:10]) else None
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError):
        return None  # the hash is right, but this is not a checkpoint


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    """A leaf as a numpy array; for a key, its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)

"""`Saved`: what the folder of a run holds, read once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqjax.array_files import saved_file
from seqjax.array_files.arrays import as_tree, load_arrays
from seqjax.errors import Error
from seqjax.models.check import check_steps
from seqjax.models.model import CountBasedModel
from seqjax.plugin import config
from seqjax.plugin.config import Config
from seqjax.runs.environment import Environment
from seqjax.runs.files import folder
from seqjax.runs.files.checkpoint import Checkpoint
from seqjax.runs.files.checkpoint import decode as decode_checkpoint
from seqjax.runs.files.manifest import Manifest, decode_manifest
from seqjax.runs.files.rows import Row, decode_rows
from seqjax.runs.files.store import read_run
from seqjax.runs.state import RunState


class Saved(NamedTuple):
    """What the folder of a run holds.

    Args:
        path: the folder.
        manifest: the manifest.
        config: the config of the experiment.
        environment: the environment in which the run was begun.
        codec_text: codec and spec, as text.
        rows: the metrics; of a run that has not ended, those before the checkpoint.
        checkpoint: the newest checkpoint; None: there is none.
        params: the parameters by name; empty if there are none yet.
        best: the parameters of the best epoch by name; empty if they are not kept.
    """

    path: Path
    manifest: Manifest
    config: Config
    environment: Environment
    codec_text: str
    rows: list[Row]
    checkpoint: Checkpoint | None
    params: dict[str, np.ndarray]
    best: dict[str, np.ndarray]

    @property
    def epochs(self) -> int:
        """The number of epochs that were asked for."""
        return self.config["epochs"]


def read_saved(path: Path) -> Saved:
    """What the folder of a run holds, after all its files were checked.

    Raises:
        Error: it holds a sweep, or no run; exit code 4: a file is damaged.
    """
    if folder.is_run(path):
        return decode_saved(path, read_run(path))
    if (path / folder.INDEX).is_file():
        raise Error(f"{path} holds a sweep; name the folder of one of its runs")
    raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")


def decode_saved(path: Path, files: Mapping[str, bytes]) -> Saved:
    """What the folder of a run holds, from the bytes that `read_run` has returned. `path` is only named in errors."""

    def parse[T](name: str, decode: Callable[[bytes], T]) -> T:
        with saved_file.reading(path / name):
            return decode(files[name])

    def arrays(name: str) -> dict[str, np.ndarray]:
        return parse(name, lambda data: load_arrays(data)[0])

    manifest = parse(folder.MANIFEST, decode_manifest)
    last = next((parse(name, decode_checkpoint) for name in files if name in manifest.checkpoints), None)
    rows: list[Row] = []
    params, best = (last.params, last.best) if last else ({}, {})
    if manifest.ended:
        rows = parse(folder.METRICS, decode_rows)
        params, best = arrays(folder.PARAMS), arrays(folder.BEST) if folder.BEST in files else {}
    elif last:
        rows = parse(folder.METRICS, lambda data: decode_rows(data, last.rows))
    return Saved(
        path,
        manifest,
        parse(folder.CONFIG, decode_config),
        parse(folder.ENVIRONMENT, Environment.from_json),
        parse(folder.CODEC, lambda data: data.decode("utf-8")),
        rows,
        last,
        params,
        best,
    )


def decode_config(data: bytes) -> Config:
    """The config of the bytes of its file; a `ValueError` if its number of epochs is no whole number."""
    table = config.decode_toml(data)
    if type(table["epochs"]) is not int:
        raise ValueError("its number of epochs is no whole number")
    return table


def restore(run: RunState, saved: Saved) -> None:
    """Restores a run from what its folder holds."""
    run.environment = saved.environment
    if not (saved.manifest.ended or saved.checkpoint):
        return
    like = run.experiment.fit().params_like(run.problem)
    run.metrics, run.stopped_at = saved.rows, saved.manifest.stopped_at
    run.diverged = saved.manifest.ended == "diverged"
    try:
        run.params = as_tree(saved.params, like)
        run.kept_best = as_tree(saved.best, like) if saved.best else None
        # The parameters of a count-based model have no fixed form.
        if isinstance(run.experiment.model, CountBasedModel):
            check_steps(run.experiment.model, run.spec, run.params)
    except (Error, *saved_file.READ_ERRORS) as fault:
        raise Error(f"{saved.path} has no parameters of this model: {fault}", exit_code=4) from fault

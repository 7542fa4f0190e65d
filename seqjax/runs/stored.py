"""Reads a run from its folder: the experiment, the codec, and the saved state of training."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqjax.data.dataset import Data
from seqjax.data.preparing import load_codec
from seqjax.data.spec import Spec
from seqjax.data.tokenizer import Codec, PairsCodec, Tokenizer
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.models.check import check_steps
from seqjax.models.model import CountBasedModel
from seqjax.parse import from_json
from seqjax.plugin import config
from seqjax.plugin.config import name_fault
from seqjax.runs.environment import missing_plugins, read_environment
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.files import folder
from seqjax.runs.files.arrays import as_tree, load_arrays
from seqjax.runs.files.checkpoint import Checkpoint
from seqjax.runs.files.checkpoint import decode as decode_checkpoint
from seqjax.runs.files.data import with_data
from seqjax.runs.files.manifest import Manifest, decode_manifest
from seqjax.runs.files.rows import Row, decode_rows
from seqjax.runs.files.store import read_run
from seqjax.runs.fingerprint import changed_objects, fingerprints, uncertain_objects
from seqjax.runs.objects import WORDS, is_missing, with_objects
from seqjax.runs.settings import KINDS, resolve
from seqjax.runs.state import RunState
from seqjax.terminal.stream import line


class Training(NamedTuple):
    """The saved state of training in the folder of a run.

    Args:
        manifest: the manifest of the run.
        epochs: the number of epochs that were asked for.
        rows: the metrics; of a run that has not ended, those before the checkpoint.
        checkpoint: the newest checkpoint; None: there is none.
        params: the parameters by name; empty if there are none yet.
        best: the parameters of the best epoch by name; empty if they are not kept.
    """

    manifest: Manifest
    epochs: int
    rows: list[Row]
    checkpoint: Checkpoint | None
    params: dict[str, np.ndarray]
    best: dict[str, np.ndarray]


def open_run[R: RunState](
    path: Path, which: str, run_class: type[R], experiment_class: type[ExperimentFields], given: Mapping[str, Any]
) -> R:
    """The run in a folder, as `Run.open` opens it, as a value of the classes that are given.

    Args:
        path: the folder.
        which: as in `Run.open`.
        run_class: the class of the run.
        experiment_class: the class of its experiment.
        given: the objects of Python in its experiment, by field.
    """
    if which not in ("last", "best"):
        raise Error(f"which = {which!r}: choose 'last' or 'best'")
    check_is_run(path)
    training = decode_training(path, read_run(path))
    experiment = read_experiment(path, experiment_class, given)
    run = run_class(experiment, *read_codec(path, experiment.tokenizer), path=path)
    if given:
        if "optimizer" in given and is_missing(experiment.model):
            raise Error(f"{path}: give its model too: the optimizer is compared with that of the run on its parameters")
        check_objects(path, run, experiment.fit().params_like(run.problem), given)
    if training.manifest.ended or training.checkpoint:
        restore(run, training)
    else:
        raise Error(f"{path} is unfinished: it has no parameters yet; the command that began it resumes it")
    if which == "best":
        if not training.manifest.ended:
            raise Error(f"{path} is unfinished: its best epoch is not known yet; the command that began it resumes it")
        run.params, run.which = run.best_params, "best"
    return run


def check_is_run(path: Path) -> None:
    """Raises an `Error` if a folder holds a sweep, or no run, or a run whose config is missing (exit code 4)."""
    if folder.is_run(path):
        return
    if (path / folder.INDEX).is_file():
        raise Error(f"{path} holds a sweep; name the folder of one of its runs")
    raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")


def read_experiment[E: ExperimentFields](path: Path, cls: type[E], given: Mapping[str, Any] | None = None) -> E:
    """The experiment of the run in a folder, as a value of this class.

    Args:
        path: the folder.
        cls: the class.
        given: objects of Python in the experiment, by field; see `with_objects`.

    Raises:
        Error: local plugins are not loaded; exit code 4: its config is damaged.
    """
    missing = missing_plugins(path)
    if missing:
        loads = " ".join(f"--load {file}" for file in missing)
        raise Error(
            f"{path} needs local plugins that are not loaded; it keeps copies of their files\n"
            f"Loading a file runs it, so read them first, and then add: {loads}"
        )
    kept = folder.read(path / folder.CONFIG, config.decode_toml)
    kept, objects = with_objects(with_data(kept, path), path, given or {})
    try:
        return cls(**resolve(kept) | objects)
    except Error as fault:
        # A plugin that is not installed is no damage.
        unknown = any(name_fault(kind, kept[kind]) for kind in KINDS if kind in kept)
        code = 4 if fault.exit_code == 2 and not unknown else fault.exit_code
        raise Error(f"{path / folder.CONFIG}: {fault}", exit_code=code) from fault


def read_codec(path: Path, tokenizer: Tokenizer | None) -> tuple[Codec | PairsCodec | None, Spec]:
    """The codec and the spec of the run in a folder."""

    def parse(data):
        saved = from_json(data)
        codec, spec = load_codec(tokenizer, saved["codec"]) if tokenizer else None, Spec.from_dict(saved["spec"])
        # Otherwise ids of the codec would index parameters of other sizes. A newer version of a tokenizer may do so.
        if isinstance(codec, Codec) and spec != Spec(codec.spec):
            raise ValueError(f"its codec is of {codec.spec}, and its spec is {spec}")
        return codec, spec

    return folder.read(path / folder.CODEC, parse)


def decode_training(path: Path, files: Mapping[str, bytes]) -> Training:
    """The saved state of training, from the bytes of its files."""

    def parse[T](name: str, decode: Callable[[bytes], T]) -> T:
        with folder.reading(path / name):
            return decode(files[name])

    manifest = parse(folder.MANIFEST, decode_manifest)
    epochs = parse(folder.CONFIG, lambda data: int(config.decode_toml(data)["epochs"]))
    last = next((parse(name, decode_checkpoint) for name in files if name in manifest.checkpoints), None)
    if manifest.ended:
        rows = parse(folder.METRICS, decode_rows)
        params = parse(folder.PARAMS, lambda data: load_arrays(data)[0])
        best = parse(folder.BEST, lambda data: load_arrays(data)[0]) if folder.BEST in files else {}
        return Training(manifest, epochs, rows, last, params, best)
    if last is None:
        return Training(manifest, epochs, [], None, {}, {})
    rows = parse(folder.METRICS, lambda data: decode_rows(data, last.rows))
    return Training(manifest, epochs, rows, last, last.params, last.best)


def restore(run: RunState, kept: Training) -> None:
    """Restores a run from the saved state of its training."""
    like = run.experiment.fit().params_like(run.problem)
    run.metrics, run.stopped_at = kept.rows, kept.manifest.stopped_at
    run.diverged = kept.manifest.ended == "diverged"
    try:
        run.params = as_tree(kept.params, like)
        run.kept_best = as_tree(kept.best, like) if kept.best else None
        # The parameters of a count-based model have no fixed form.
        if isinstance(run.experiment.model, CountBasedModel):
            check_steps(run.experiment.model, run.spec, run.params)
    except (Error, ValueError) as fault:
        raise Error(f"{run.path or 'the run'} has no parameters of this model: {fault}", exit_code=4) from fault


def check_objects(path: Path, run: RunState, params: Params, fields: Collection[str] = tuple(WORDS)) -> None:
    """Checks that the objects of Python in an experiment are those with which the run in a folder was made.

    Of an object that was traced with other versions of libraries, only the structure of what it returns is compared. A
    warning says so if its program differs.

    Args:
        path: the folder.
        run: the run, whose experiment has the objects.
        params: its parameters, or their shapes and dtypes.
        fields: the fields of the experiment that are compared.

    Raises:
        Error: an object has changed. The message names it.
    """
    kept, objects = (
        {name: value for name, value in each.items() if name.partition(".")[0] in fields}
        for each in (read_environment(path)["objects"], run.experiment.objects)
    )
    now = fingerprints(objects, run.problem, params)
    if problems := changed_objects(kept, now):
        raise Error(
            f"{path} was made with other objects of Python; no file was touched\n"
            "Give the objects as they were then; other ones need another folder:",
            problems=problems,
        )
    if uncertain := uncertain_objects(kept, now):
        line("warning", f"{path}: only the structure could be compared of {', '.join(uncertain)}")


def check_data(path: Path, sources: Mapping[str, Data]) -> None:
    """Raises an `Error` with exit code 4 unless these are the data that the run in a folder was made with."""
    now = {name: data.sha256 for name, data in sources.items()}
    check_hashes(path, read_environment(path)["data_sha256"], now)


def check_hashes(path: Path, kept: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises an `Error` with exit code 4 unless the data of a run have the same sha256 as then, by field."""
    for name, sha256 in now.items():
        if sha256 != kept.get(name):
            raise Error(
                f"{path}: its {name} has changed; its sha256 was {kept.get(name)}\n"
                "Restore the old data, or train in another folder",
                exit_code=4,
            )

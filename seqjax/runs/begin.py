"""Begins a run in a new folder, or takes up the run that a folder holds.

| the folder holds | the same command | with more epochs |
|---|---|---|
| nothing | begins | |
| a run that has begun | continues from the last checkpoint | the same |
| a run that has ended | opens it | continues; refused if the result could differ from that of a new run |
| a run that has diverged | raises the same error | an error |
| another experiment, or other files | an error | an error |
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from seqjax.errors import Error
from seqjax.runs import stored
from seqjax.runs.environment import Record, changes, environment, local_plugins, read_environment
from seqjax.runs.experiment import ExperimentFields, config_bytes, differences, goes_on
from seqjax.runs.files import folder, store
from seqjax.runs.files.arrays import by_name, sha256_of
from seqjax.runs.files.data import encode_data
from seqjax.runs.fingerprint import fingerprints
from seqjax.runs.record import diverged
from seqjax.runs.state import RunState
from seqjax.runs.stored import Training
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.runs.tracking.tracker import Tracker
from seqjax.terminal.stream import line
from seqjax.training.fit import Fit
from seqjax.training.optimizer import Optimizer, depends_on_num_updates


def check_experiment(asked: ExperimentFields, path: Path | None) -> None:
    """Checks that a folder can hold an experiment: there is no run, or one of this experiment, up to more epochs.

    Args:
        asked: the experiment.
        path: the folder; None: the run stays in memory.

    Raises:
        Error: the folder holds another experiment, or no config can hold this one.
    """
    if path is None:
        return
    config_bytes(asked)
    if store.is_begun(path):
        kept = stored.read_experiment(path, type(asked))
        if problems := differences(kept, asked, ["epochs"] if goes_on(kept, asked) else []):
            is_less = kept.epochs > asked.epochs
            advice = "\nA run can continue for more epochs, and not for fewer" if is_less else ""
            raise Error(f"{path} holds a run of another experiment; choose another folder{advice}", problems=problems)


def check_objects_and_params(path: Path, run: RunState, fit: Fit) -> None:
    """Checks that objects of Python, and the parameters that a module comes with, are those of the run in a folder.

    Raises:
        Error: an object has changed, and is named; other parameters are given.
    """
    stored.check_objects(path, run, fit.params_like(run.problem))
    is_foreign = "model" in run.experiment.objects and run.experiment.init_from is None
    kept = read_environment(path)["initial_params_sha256"]
    if is_foreign and fit.params is not None and kept != sha256_of(by_name(fit.params)):
        raise Error(
            f"{path} was begun with other initial params of the model; no file was touched\n"
            "Give the params as they were then, such as with the same seed of the module, or choose another folder"
        )


def check_kept(path: Path, experiment: ExperimentFields, kept: Training) -> None:
    """Checks that what a run of fewer epochs has kept is enough to continue it.

    Raises:
        Error: it has diverged; its optimizer's state is not kept; its last epoch was evaluated only because it was the
            last.
    """
    if kept.manifest.ended == "diverged":
        raise _refusal(path, experiment, kept, "it has diverged")
    if kept.manifest.ended and kept.checkpoint is None:
        raise _refusal(path, experiment, kept, f"the state of its optimizer is not kept in {folder.CHECKPOINTS}")
    every = experiment.evaluate_every
    if len(kept.rows) == kept.epochs and kept.epochs % every:  # also before the results are written
        why = f"its last epoch was evaluated, and is no multiple of evaluate_every = {every}"
        raise _refusal(path, experiment, kept, why)


def check_continues(run: RunState, kept: Training) -> None:
    """Checks that a run of fewer epochs can be continued to the same bits as those of a new run of all epochs.

    Raises:
        Error: see `check_kept`; the updates of its optimizer depend on the number of epochs.
    """
    assert run.path is not None
    e = run.experiment
    check_kept(run.path, e, kept)
    if isinstance(e.optimizer, Optimizer) and depends_on_num_updates(e.optimizer, e.fit().params_like(run.problem)):
        why = "the updates of its optimizer depend on the number of epochs, by a schedule or a warm-up"
        raise _refusal(run.path, e, kept, why)


def _refusal(path: Path, experiment: ExperimentFields, kept: Training, why: str) -> Error:
    """The error of a run that cannot be continued to more epochs."""
    return Error(
        f"{path} cannot be continued from {kept.epochs} to {experiment.epochs} epochs with the result of a run of "
        f"{experiment.epochs}: {why}\nTrain {experiment.epochs} epochs in another folder"
    )


def has_ended(run: RunState, kept: Training) -> bool:
    """Whether nothing is left to do for the number of epochs that is asked for.

    A run that stopped early and is asked for more epochs has nothing to train, but its config and its results are
    written again.
    """
    is_at_end = run.finished or run.diverged
    return bool(kept.manifest.ended) and is_at_end and run.experiment.epochs == kept.epochs


def open_ended(run: RunState, kept: Training, progress: bool, tracker: Tracker | None) -> None:
    """Opens a run that has ended, which is not trained again: its tracker gets the rows that it lacks.

    Raises:
        Diverged: the run has diverged, with the same message as then.
    """
    if run.diverged:
        raise diverged(run, kept.manifest.note)
    if progress:
        line("opened", f"{run.path}: it is finished, and was not trained again")
    with contextlib.closing(SafeMirror(tracker, run.path, len(run.metrics))) as mirror:
        mirror.update(run.metrics)


def open_folder(path: Path, run: RunState, fit: Fit, kept: Training | None) -> None:
    """Makes the folder of a new run, or prepares that of a run to continue. The caller holds its lock.

    Args:
        path: the folder.
        run: the run.
        fit: how it is fitted.
        kept: the saved state of the run, read before the folder was locked; None: there is no run.

    Raises:
        Error: another process has changed the folder in between (exit code 5); the tokenizer has changed (4).
    """
    store.check_unchanged(path, kept.manifest if kept else None)
    if kept is None:
        store.begin(path, first_files(run, fit))
        return
    if folder.read_text(path / folder.CODEC) != run.codec_text:
        raise Error(f"{path}: its tokenizer no longer gives the ids that it was trained on", exit_code=4)
    store.go_on(path, kept.manifest, config_bytes(run.experiment), kept.rows)


def first_files(run: RunState, fit: Fit) -> dict[str, bytes]:
    """The files that a run has before training, by name."""
    in_memory = {name: data for name, data in run.prepared.sources.items() if getattr(run.experiment, name) is data}
    return {
        folder.ENVIRONMENT: (json.dumps(environment_of(run, fit), indent=2) + "\n").encode(),
        folder.CODEC: run.codec_text.encode(),
        **local_plugins(run.experiment),
        **{folder.DATA[name]: encode_data(data) for name, data in in_memory.items()},
        folder.CONFIG: config_bytes(run.experiment),
    }


def environment_of(run: RunState, fit: Fit) -> Record:
    """The record of what a run depends on here."""
    data = {name: data.sha256 for name, data in run.prepared.sources.items()}
    given = None if fit.params is None else sha256_of(by_name(fit.params))
    objects = fingerprints(run.experiment.objects, run.problem, fit.params_like(run.problem))
    return environment(run.experiment, data, fit, given, objects)


def begun_devices(path: Path) -> int:
    """The number of devices on which the run in a folder was begun."""
    return int(read_environment(path)["devices"])


def check_environment(path: Path, now: Record, but: Iterable[str] = ()) -> None:
    """Raises an `Error` unless dataset and environment are those with which the run in a folder was begun."""
    kept = read_environment(path)
    stored.check_hashes(path, kept["data_sha256"], now["data_sha256"])
    # Objects of Python are compared by `check_objects_and_params`, which names them.
    problems = changes(kept, now, [*but, *kept["objects"], *now["objects"]])
    if problems:
        raise Error(
            f"{path} was begun in another environment, so that its result could change here\n"
            "Resume it in that environment, in as many processes (--devices sets the number of devices, and with the "
            "launcher local --launcher.jobs does), or train in another folder:",
            problems=problems,
            exit_code=4,
        )

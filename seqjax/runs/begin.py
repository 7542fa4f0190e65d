"""Makes the folder of a run, or reads the state of one that was begun before."""

import dataclasses
import json
import math
from collections.abc import Container
from pathlib import Path
from typing import Any

from seqjax.data.preparing import load_all
from seqjax.errors import Error
from seqjax.files import PART, disk_errors, sync, write
from seqjax.runs import checkpoint, folder
from seqjax.runs.environment import changes, copy_local_plugins, environment, read_environment
from seqjax.runs.experiment import Experiment, config_bytes, differences, goes_on, read_experiment
from seqjax.runs.manifest import add_files, begin_manifest, read_manifest, remove_results
from seqjax.runs.params_file import check_params
from seqjax.runs.rows import check_count, read_rows, write_rows
from seqjax.runs.run import Run
from seqjax.runs.warm_start import sha256_of_params
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.layout import Layout
from seqjax.training.loop import Progress, init_train_state
from seqjax.training.metrics import name_of
from seqjax.training.optimizer import Optimizer, depends_on_num_updates, with_numbers_of


def ended_run(experiment: Experiment, path: Path | None) -> Run | None:
    """The run in a folder, if it is finished or has diverged.

    Raises:
        Error: the folder holds a run of another experiment, or other files; the dataset has changed (exit code 4).
    """
    if path is None or not path.is_dir() or not any(file.name != folder.LOCK for file in path.iterdir()):
        return None
    if not (path / folder.CONFIG).is_file():
        strange = sorted(
            file.name for file in path.iterdir() if file.name not in folder.FIRST and not file.name.endswith(PART)
        )
        if strange:
            raise Error(f"{path} holds no run, but {', '.join(strange[:3])}; choose another folder")
        return None
    kept = read_experiment(path)
    more, fewer = goes_on(kept, experiment), kept.epochs > experiment.epochs
    same = fewer and _ended_before(path, experiment.epochs)
    problems = differences(kept, experiment, ["epochs"] if more or same else [])
    if problems:
        advice = "\nA run can go on for more epochs, but not for fewer" if fewer and not same else ""
        raise Error(f"{path} holds a run of another experiment; choose another folder{advice}", problems=problems)
    if more:
        return None
    run = Run.open(path) if (path / folder.PARAMS).is_file() else None
    if run is not None:
        run.check_data(load_all(experiment.dataset, experiment.heldout))
    return run


def _ended_before(path, epochs):
    """Whether the run in a folder ended early, and would be the same if it had been asked for this many epochs."""
    if not (path / folder.PARAMS).is_file():
        return False
    run = Run.open(path)
    optimizer = run.experiment.optimizer
    depends = isinstance(optimizer, Optimizer) and depends_on_num_updates(optimizer, run.params)
    return bool(run.ending) and len(run.metrics) < epochs and not depends


def open_folder(run: Run, fit: Fit) -> tuple[TrainState | None, Progress | None]:
    """Makes the folder of a run, or reads its last checkpoint; None: training starts at update 0."""
    if run.path is None:
        return None, None
    for path in (run.path, folder.inner_folder(run.path, folder.PLUGINS)):
        folder.remove_parts(path)
    checkpoint.remove_parts(run.path)
    if not (run.path / folder.CONFIG).is_file():
        _create(run, fit)
        return None, None
    check_environment(run, fit)
    kept = read_experiment(run.path)
    run.changed = read_manifest(run.path).changed
    more = goes_on(kept, run.experiment)
    if more:
        _check_goes_on(run, fit, kept.epochs)
    # Everything is read before anything is written.
    state, progress = _resume(run, fit)
    # Before the results: until they are new, none of them is in the manifest.
    remove_results(run.path, config_bytes(run.experiment))
    with disk_errors(run.path):
        # A run that diverged is trained again. Its parameters are deleted before the mark that it diverged: parameters
        # without the mark are those of a finished run, from which nothing may be deleted.
        (run.path / folder.PARAMS).unlink(missing_ok=True)
        sync(run.path)  # otherwise a power cut could undo this deletion, and not what follows
        (run.path / folder.DIVERGED).unlink(missing_ok=True)
    if more:
        # The config changes after the parameters are deleted: a folder that has them and fewer rows than epochs would
        # be damaged. After a kill between the two, the folder holds an unfinished run, which either command finishes.
        write(run.path / folder.CONFIG, config_bytes(run.experiment))
    add_files(run.path, folder.CONFIG)
    # The rows come last, since the last one may lose its evaluation, which belongs to a run of fewer epochs.
    write_rows(run.path, run.metrics)
    return state, progress


def _check_goes_on(run, fit, kept_epochs):
    """Checks that a run of fewer epochs would have the same bits if all epochs had been asked for at once.

    Raises:
        Error: its optimizer's state is not kept; its updates depend on the number of epochs; its last epoch was
            evaluated out of turn.
    """
    e, why = run.experiment, None
    evaluated_out_of_turn = kept_epochs % e.evaluate_every and (e.keep == "best" or e.stop_after is not None)
    if (run.path / folder.PARAMS).is_file() and checkpoint.newest(run.path) is None:
        why = f"the state of its optimizer is not kept in {folder.CHECKPOINTS}"
    elif isinstance(e.optimizer, Optimizer) and depends_on_num_updates(e.optimizer, fit.params_like(run.problem)):
        why = "the updates of its optimizer depend on the number of epochs, by a schedule or a warm-up"
    elif evaluated_out_of_turn:
        why = (
            f"its last epoch was evaluated, and is no multiple of evaluate_every = {e.evaluate_every}: with more "
            "epochs it would not count for the lowest held-out loss"
        )
    if why:
        raise Error(
            f"{run.path} cannot go on from {kept_epochs} to {e.epochs} epochs as if they had been asked for at once: "
            f"{why}\nTrain {e.epochs} epochs in another folder"
        )


def _create(run, fit):
    """Writes the files that precede training. The config comes last, since it marks the folder as a run."""
    record = environment_of(run, fit)
    write(run.path / folder.ENVIRONMENT, json.dumps(record, indent=2) + "\n")
    write(run.path / folder.CODEC, run.codec_text)
    write(run.path / folder.METRICS, b"")
    copy_local_plugins(run.path, run.experiment)
    for name, data in run.prepared.sources.items():
        if getattr(run.experiment, name) is data:  # it was given in memory
            folder.write_data(run.path, name, data)
    begin_manifest(run.path, config_bytes(run.experiment))
    write(run.path / folder.CONFIG, config_bytes(run.experiment))


def environment_of(run: Run, fit: Fit) -> dict[str, Any]:
    """The record of what a run depends on here."""
    hashes = {name: data.sha256 for name, data in run.prepared.sources.items()}
    layout = Layout(fit.num_devices, fit.precision)
    return environment(run.experiment, hashes, layout, sha256_of_params(fit.params))


def begun_layout(path: Path | None) -> Layout | None:
    """The layout in which the run in a folder was begun; None: there is no run."""
    if path is None or not (path / folder.CONFIG).is_file():
        return None

    record = read_environment(path)
    return Layout(record["devices"], record.get("precision", "float32"))


def check_environment(run: Run, fit: Fit, but: Container[str] = ()) -> None:
    """Raises an `Error` unless dataset and environment are those with which the run in `run.path` was begun."""
    assert run.path is not None
    run.check_data(run.prepared.sources)
    now = environment_of(run, fit)
    problems = changes(read_environment(run.path), now, but)
    if problems:
        raise Error(
            f"{run.path} was begun in another environment, so that its result could change here\n"
            "Resume it in that environment, in as many processes (--devices sets the number of devices, and with the "
            "launcher local --launcher.jobs does), or train in another folder:",
            problems=problems,
            exit_code=4,
        )


def _resume(run, fit):
    """Reads the last checkpoint of an interrupted run, and the rows before it. Writes nothing."""
    last = checkpoint.newest(run.path)
    if last is None:
        run.metrics = []
        return None, None
    if folder.read(run.path / folder.CODEC, lambda data: data.decode("utf-8")) != run.codec_text:
        raise Error(f"{run.path}: its tokenizer no longer gives the ids that it was trained on", exit_code=4)
    rows = read_rows(run.path)
    run.metrics = rows[: last.progress.epochs_done]
    run.stopped_at = folder.read_stopped(run.path)
    check_count(run.path, rows, last.progress.epochs_done)
    if run.best_epoch is not None and run.experiment.keep == "best":
        # Epochs after the checkpoint are trained again, and their parameters are kept again.
        up_to = (dataclasses.replace(run, metrics=rows[:n]) for n in range(last.progress.epochs_done, len(rows) + 1))
        check_params(run.path, folder.BEST, [each.best_epoch for each in up_to])
    if run.metrics and not run.finished:
        run.metrics[-1] = _without_early_evaluation(run, run.metrics[-1])
    like = init_train_state(run.problem, run.experiment.setup(), 1, fit.params)
    state = checkpoint.restore(last, like)
    if folder.CONFIG in read_manifest(run.path).changed:  # otherwise they are equal
        state = state._replace(opt_state=with_numbers_of(state.opt_state, like.opt_state))
    run.params = state.params
    return state, last.progress


def _without_early_evaluation(run, row):
    """The row of an epoch that was the last one, and was evaluated for this reason alone, as if it had not been."""
    if row["epoch"] % run.experiment.evaluate_every == 0:
        return row
    names = {f"{part}_{name_of(metric)}" for metric in run.experiment.metrics for part in ("train", "heldout")}
    return {name: math.nan if name.startswith("heldout_") or name in names else row[name] for name in row}

"""Carries out an experiment: read the folder, prepare, open or begin, train and record."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqjax.errors import Error
from seqjax.runs import stored
from seqjax.runs.agreement import check_equal, share_files
from seqjax.runs.begin import (
    begun_devices,
    check_continues,
    check_environment,
    check_experiment,
    check_objects_and_params,
    environment_of,
    has_ended,
    open_ended,
    open_folder,
)
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.files import checkpoint, folder, store
from seqjax.runs.objects import check_given
from seqjax.runs.progress import Display
from seqjax.runs.ready import Ready, get_ready
from seqjax.runs.record import outcomes_of, record
from seqjax.runs.settings import CHECKPOINT_SECONDS
from seqjax.runs.state import RunState
from seqjax.runs.stored import Training
from seqjax.runs.tracking.tracker import Tracker
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.join import ending_together
from seqjax.training.loop import Progress, init_train_state, train_side_by_side
from seqjax.training.metrics import resolve
from seqjax.training.processes import from_first, in_all, is_first


class Options(NamedTuple):
    """The options of `Experiment.run`, which has their documentation."""

    progress: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    callback: Callable[[Any], Any] | None = None
    tracker: Tracker | None = None


def execute[R: RunState](
    experiment: ExperimentFields, path: Path | None, options: Options, prepare: Callable[[], Ready[R]]
) -> R:
    """Trains in memory or in a folder. Resumes an interrupted run, and opens one that has ended.

    Several processes may call it together. The first one reads and writes the folder, and the others have the same run
    in memory.

    Args:
        experiment: the experiment.
        path: the folder of the run; None: in memory.
        options: the options.
        prepare: prepares the run; see `get_ready`.
    """
    _check_options(path, options)
    check_given(experiment.objects)
    with ending_together(path), contextlib.ExitStack() as stack:
        if not is_first():
            path, options = None, options._replace(progress=False, tracker=None)
        files = share_files(in_all(lambda: store.read_run(path)))
        in_all(lambda: check_experiment(experiment, path))
        run, fit = in_all(prepare)
        run.path = path
        kept = in_all(lambda: _take_up(path, run, fit, files))
        # Decided by one process: the number of epochs may differ, which `check_equal` finds if the run continues.
        opens = from_first(kept is not None and has_ended(run, kept))
        if kept is not None and opens:
            open_ended(run, kept, options.progress, options.tracker)
            return run
        fit, chunks = in_all(lambda: _chunks(run, fit, kept))
        check_equal(run, fit)
        in_all(lambda: _open(path, run, fit, kept, stack))
        display = stack.enter_context(Display(run, options.progress, fit))
        record(
            [run],
            outcomes_of(chunks),
            fit,
            options.checkpoint_seconds,
            display.row,
            display.part,
            options.callback,
            options.tracker,
        )
    return run


def _take_up(path: Path | None, run: RunState, fit: Fit, files: Mapping[str, bytes]) -> Training | None:
    """The saved state of the run, or None for a new run; the run is restored from it."""
    if not files:
        return None
    if path is not None:
        check_objects_and_params(path, run, fit)
    kept = stored.decode_training(path or Path(), files)
    if kept.params:
        stored.restore(run, kept)
    if path is not None:
        stored.check_data(path, run.prepared.sources)
        if run.experiment.epochs > kept.epochs:
            check_continues(run, kept)
    return kept


def _open(path: Path | None, run: RunState, fit: Fit, kept: Training | None, stack: contextlib.ExitStack) -> None:
    """Locks the folder of a run, if it has one, and makes it or prepares it to continue."""
    if path is not None:
        stack.enter_context(folder.lock(path))
        open_folder(path, run, fit, kept)


def _chunks(run: RunState, fit: Fit, kept: Training | None) -> tuple[Fit, Iterator[tuple[TrainState, Progress]]]:
    """How a run is fitted on its devices, and the chunks of its training that are left. Nothing is written.

    Raises:
        Error: the run cannot be trained; it was begun in another environment (exit code 4).
    """
    if kept is not None and run.path is not None:
        fit = fit.as_begun(begun_devices(run.path))
        # Before the checkpoint, whose dtypes may differ there.
        check_environment(run.path, environment_of(run, fit))
    if kept is None or kept.checkpoint is None:
        return fit, training_chunks(run, fit)
    like = init_train_state(run.problem, run.experiment.setup(), 1, fit.params)
    state = checkpoint.restore(kept.checkpoint, like)
    return fit, iter(()) if run.finished else training_chunks(run, fit, state, kept.checkpoint.progress)


def _check_options(path: Path | None, options: Options) -> None:
    """Raises an `Error` unless the options are of the right types, and fit a run with or without a folder."""
    check_seconds(options.checkpoint_seconds)
    if options.tracker is not None and not isinstance(options.tracker, Tracker):
        raise Error(f"tracker = {options.tracker!r:.60} is no tracker; pass one, such as create('tracker', name)")
    if options.tracker is not None and path is None:
        raise Error("a tracker mirrors the folder of a run, and this one is in memory; give run a folder")
    if options.callback is not None and not callable(options.callback):
        raise Error(f"callback = {options.callback!r:.60} is no function; pass one that takes the run")


def check_seconds(checkpoint_seconds: float) -> None:
    """Raises an `Error` unless this is a time from one checkpoint to the next: a number from 0 on, which may be ∞."""
    is_number = isinstance(checkpoint_seconds, int | float | np.number) and not isinstance(checkpoint_seconds, bool)
    if not (is_number and checkpoint_seconds >= 0):  # NaN is not
        raise Error(f"checkpoint_seconds = {checkpoint_seconds!r:.80} must be a number, at least 0")


def execute_side_by_side[R: RunState](
    experiments: Sequence[ExperimentFields],
    paths: Sequence[Path | None],
    fields: dict[str, list[float]],
    checkpoint_seconds: float,
    tracker: Tracker | None,
    run_class: type[R],
    callback: Callable[[Any], Any] | None = None,
) -> list[R]:
    """The runs of new experiments, trained side by side on one device.

    Args:
        experiments: the experiments, which differ only in the seed and in fields of the optimizer.
        paths: the folder of each run, in which there is none yet; None: in memory.
        fields: the fields of the optimizer that differ, as `train_side_by_side` takes them.
        checkpoint_seconds: time from one checkpoint to the next, at least.
        tracker: mirrors the runs; None: they are not mirrored.
        run_class: the class of the runs.
        callback: called with each run after each of its epochs, as in `Experiment.run`.
    """
    made = [get_ready(experiment, run_class, devices=1) for experiment in experiments]
    runs, fit = [run for run, _ in made], made[0].fit
    training_chunks(runs[0], fit)  # raises its errors early; the other runs differ only in numbers
    with contextlib.ExitStack() as locks:
        for run, path in zip(runs, paths, strict=True):
            run.path = path
            _open(path, run, fit, None, locks)
        setups = [experiment.setup(1) for experiment in experiments]
        outcomes = train_side_by_side(runs[0].problem, runs[0].prepared.streams["train"], setups, fields)
        record(runs, outcomes, fit, checkpoint_seconds, callback=callback, tracker=tracker)
    return runs


def training_chunks(
    run: RunState, fit: Fit, state: TrainState | None = None, progress: Progress | None = None
) -> Iterator[tuple[TrainState, Progress]]:
    """The chunks of the training of a run, as `Fit.train` yields them.

    Raises:
        Error: the run cannot be trained.
    """
    resolve(run.experiment.metrics, run.spec)
    return fit.train(run.problem, run.prepared.streams["train"], state, progress)

"""Carries out an experiment: prepare the data, find what the folder holds, train, record, finish."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqjax.data.preparing import DEFAULT_TOKENIZER, Prepared, resolve_tokenizer
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.plugin.config import create
from seqjax.runs import stored
from seqjax.runs.agreement import check_equal, share_files
from seqjax.runs.begin import begun_layout, find, open_folder
from seqjax.runs.experiment import ExperimentFields, config_bytes
from seqjax.runs.files import checkpoint, folder
from seqjax.runs.progress import Display
from seqjax.runs.record import outcomes_of, record
from seqjax.runs.state import RunState
from seqjax.runs.stored import Training
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.runs.tracking.tracker import Tracker
from seqjax.runs.warm_start import TOKENIZER, check_tokens, params_from
from seqjax.terminal.stream import line
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.join import ending_together
from seqjax.training.layout import Layout
from seqjax.training.loop import Diverged, Progress, init_train_state, train_side_by_side
from seqjax.training.metrics import resolve
from seqjax.training.processes import in_all, is_first


class Options(NamedTuple):
    """The options of `Experiment.run`, which has their documentation.

    `layout` is where and how a run is computed that begins; None: where it is fastest.
    """

    devices: int | None = None
    progress: bool = False
    checkpoint_seconds: float = 30.0
    params: Params | None = None
    callback: Callable[[Any], Any] | None = None
    tracker: Tracker | None = None
    layout: Layout | None = None


def execute[R: RunState](experiment: ExperimentFields, path: Path | None, options: Options, run_class: type[R]) -> R:
    """Trains in memory or in a folder. Resumes an interrupted run, and opens one that has ended.

    Several processes may call it together. The first one reads and writes the folder, and the others have the same run
    in memory.

    Args:
        experiment: the experiment.
        path: the folder of the run; None: in memory.
        options: the options.
        run_class: the class of the run that is returned.
    """
    _check_options(path, options)
    if not is_first():
        path, options = None, options._replace(progress=False, tracker=None)
    with ending_together(path), contextlib.ExitStack() as stack:
        run = in_all(lambda: prepare_run(experiment, path, run_class))
        kept = _share(run, in_all(lambda: find(run)))
        if kept is not None and kept.manifest.ended and (run.finished or run.diverged):
            return _opened(run, kept, options)
        fit, chunks = in_all(lambda: _ready(run, kept, options))
        check_equal(run, fit)
        in_all(lambda: _take_folder(run, fit, kept, stack))
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


def _take_folder(run: RunState, fit: Fit, kept: Training | None, stack: contextlib.ExitStack) -> None:
    """Locks the folder of a run, if it has one, and makes it or prepares it to continue."""
    if run.path is not None:
        stack.enter_context(folder.lock(run.path))
        open_folder(run, fit, kept)


def _share[R: RunState](run: R, files: Mapping[str, bytes]) -> Training | None:
    """What training has left in the folder, which the first process has read, in all processes; None: nothing."""
    files = share_files(files)
    if not files:
        return None
    kept = in_all(lambda: stored.decode_training(run.path or Path(), files))
    if kept.params:
        in_all(lambda: stored.restore(run, kept))
    return kept


def _opened[R: RunState](run: R, kept: Training, options: Options) -> R:
    """A run that has ended, which is not trained again."""
    if run.diverged:
        raise Diverged(kept.manifest.note, None, run)
    if options.progress:
        line("opened", f"{run.path}: it is finished, and was not trained again")
    with contextlib.closing(SafeMirror(options.tracker, run.path, len(run.metrics))) as mirror:
        mirror.update(run.metrics)
    return run


def _ready(run: RunState, kept: Training | None, options: Options) -> tuple[Fit, Iterator[tuple[TrainState, Progress]]]:
    """How a run is fitted, and the chunks of its training that are left. Nothing is written.

    Raises:
        Error: the run cannot be trained.
    """
    fit = run.experiment.fit(options.devices, initial_params(run, options.params))
    fit = fit.in_layout(run.problem, run.prepared.streams["train"], begun_layout(run.path) or options.layout)
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
) -> list[R]:
    """The runs of new experiments, trained side by side on one device.

    Args:
        experiments: the experiments, which differ only in the seed and in fields of the optimizer.
        paths: the folder of each run, in which there is none yet; None: in memory.
        fields: the fields of the optimizer that differ, as `train_side_by_side` takes them.
        checkpoint_seconds: time from one checkpoint to the next, at least.
        tracker: mirrors the runs; None: they are not mirrored.
        run_class: the class of the runs.
    """
    fit = experiments[0].fit(1)
    runs = [prepare_run(experiment, path, run_class) for experiment, path in zip(experiments, paths, strict=True)]
    training_chunks(runs[0], fit)  # for its errors: the other runs differ from it only in numbers
    with contextlib.ExitStack() as locks:
        for run in runs:
            if run.path is not None:
                locks.enter_context(folder.lock(run.path))
                open_folder(run, fit, None)
        setups = [experiment.setup(1) for experiment in experiments]
        outcomes = train_side_by_side(runs[0].problem, runs[0].prepared.streams["train"], setups, fields)
        record(runs, outcomes, fit, checkpoint_seconds, tracker=tracker)
    return runs


def prepare_run[R: RunState](experiment: ExperimentFields, path: Path | None, run_class: type[R]) -> R:
    """A run with its data, before anything is written.

    Raises:
        Error: the data cannot be read, or the run cannot be saved in its folder.
    """
    if path is not None:
        config_bytes(experiment)
    data = experiment.prepare()
    if experiment.init_from is not None and TOKENIZER not in experiment.init_anew:
        source = stored.open_run(Path(experiment.init_from), "last", RunState, type(experiment))
        if same_tokenizer(source.experiment, experiment) and _is_alike(source, data):
            data = experiment.prepare(source.codec)
    tokenizer = resolve_tokenizer(experiment.tokenizer, data.source)
    experiment = dataclasses.replace(experiment, tokenizer=tokenizer)
    return run_class(experiment, data.codec, data.spec, path=path, _prepared=data)


def _is_alike(source: RunState, data: Prepared) -> bool:
    """Whether the codec of a run can read other data: a text, or values of the same widths."""
    is_text = isinstance(source.codec, TextCodec) and isinstance(data.codec, TextCodec)
    return is_text or (type(source.codec) is type(data.codec) and source.spec == data.spec)


def same_tokenizer(one: ExperimentFields, other: ExperimentFields) -> bool:
    """Whether the data of two experiments are read by equal tokenizers, so that a codec serves both."""
    tables = [experiment.tokenizer or create("tokenizer", DEFAULT_TOKENIZER) for experiment in (one, other)]
    return tables[0] == tables[1]


def initial_params(run: RunState, given: Params | None) -> Params | None:
    """The parameters that training starts from; None: those of the model.

    Args:
        run: the new run.
        given: those that were given in Python.

    Raises:
        Error: they are given twice, or those of another run do not fit.
    """
    e = run.experiment
    if e.init_from is None:
        return given
    if given is not None:
        raise Error(f"params are given, and init_from = {e.init_from!r} too; leave one of them out")
    source = stored.open_run(Path(e.init_from), e.init_which, RunState, type(e))
    if not e.init_anew:
        check_tokens(source.codec, run.codec, e.init_from)
    return params_from(source.params, run.problem, e.setup(), e.init_anew, e.init_from)


def training_chunks(
    run: RunState, fit: Fit, state: TrainState | None = None, progress: Progress | None = None
) -> Iterator[tuple[TrainState, Progress]]:
    """The chunks of the training of a run, as `Fit.train` yields them.

    Raises:
        Error: the run cannot be trained.
    """
    resolve(run.experiment.metrics, run.spec)
    return fit.train(run.problem, run.prepared.streams["train"], state, progress)

"""`Experiment.run`: starts or resumes a run, and trains it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqjax.data.preparing import DEFAULT_TOKENIZER, Prepared, resolve_tokenizer
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.plugin.config import create
from seqjax.runs import folder
from seqjax.runs.agreement import check_equal, share_run, share_state
from seqjax.runs.begin import begun_layout, ended_run, open_folder
from seqjax.runs.experiment import Experiment, config_bytes
from seqjax.runs.progress import Display
from seqjax.runs.record import complete, outcomes_of, record
from seqjax.runs.run import Run
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.runs.tracking.tracker import Tracker
from seqjax.runs.warm_start import TOKENIZER, check_tokens, params_from
from seqjax.terminal.stream import line
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.join import ending_together
from seqjax.training.layout import Layout
from seqjax.training.loop import Progress, train_side_by_side
from seqjax.training.metrics import resolve
from seqjax.training.processes import from_first, in_all, is_first


def check_seconds(checkpoint_seconds: float) -> None:
    """Raises an `Error` unless this is a time from one checkpoint to the next: a number from 0 on, which may be ∞."""
    is_number = isinstance(checkpoint_seconds, int | float | np.number) and not isinstance(checkpoint_seconds, bool)
    if not (is_number and checkpoint_seconds >= 0):  # NaN is not
        raise Error(f"checkpoint_seconds = {checkpoint_seconds!r:.80} must be a number, at least 0")


class Options(NamedTuple):
    """The options of `Experiment.run`, which has their documentation.

    `layout` is where and how a run is computed that begins; None: where it is fastest.
    """

    devices: int | None = None
    progress: bool = False
    checkpoint_seconds: float = 30.0
    params: Params | None = None
    callback: Callable[[Run], Any] | None = None
    tracker: Tracker | None = None
    layout: Layout | None = None


def execute(experiment: Experiment, path: Path | None, options: Options) -> Run:
    """Trains in memory or in a folder. Resumes an interrupted run, and opens a finished one.

    Several processes may call it together. The first one reads and writes the folder, and the others have the same run
    in memory.
    """
    check_seconds(options.checkpoint_seconds)
    if options.tracker is not None and not isinstance(options.tracker, Tracker):
        raise Error(f"tracker = {options.tracker!r:.60} is no tracker; pass one, such as create('tracker', name)")
    if options.tracker is not None and path is None:
        raise Error("a tracker mirrors the folder of a run, and this one is in memory; give run a folder")
    if options.callback is not None and not callable(options.callback):
        raise Error(f"callback = {options.callback!r:.60} is no function; pass one that takes the run")
    with ending_together(path):
        if is_first():
            return _execute(experiment, path, options)
        return _execute(experiment, None, options._replace(progress=False, tracker=None))


def _execute(experiment, path, options):
    """Carries out an experiment; the path is None in all processes but the first."""
    ended = in_all(lambda: ended_run(experiment, path))
    if from_first(ended is not None and ended.finished):
        if options.progress:
            line("opened", f"{path}: it is finished, and was not trained again")
        run = _opened(experiment, ended, complete)
        mirror_finished(run, options.tracker)
        return run
    run, fit, chunks = in_all(lambda: _ready(experiment, path, options))
    check_equal(run, fit)
    with contextlib.ExitStack() as locked:
        in_all(lambda: path is None or locked.enter_context(folder.lock(path)))
        # Again: another command may just have released the folder.
        ended = in_all(lambda: ended_run(experiment, path))
        if from_first(ended is not None and ended.finished):
            return _opened(experiment, ended)
        state, done = share_state(run, fit, *in_all(lambda: open_folder(run, fit)))
        if state is not None:
            share_run(run)
            chunks = iter(()) if run.finished else training_chunks(run, fit, state, done)
        with Display(run, options.progress, fit) as display:
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


def _ready(experiment, path, options):
    """The run, how it is fitted, and its chunks."""
    run = make_ready(experiment, path)
    fit = experiment.fit(options.devices, initial_params(run, options.params))
    fit = fit.in_layout(run.problem, run.prepared.streams["train"], begun_layout(path) or options.layout)
    return run, fit, training_chunks(run, fit)


def _opened(experiment, ended, finish=lambda run: None):
    """The finished run that the first process has found, in all processes."""
    in_all(lambda: ended is None or finish(ended))
    run = in_all(lambda: make_ready(experiment, None) if ended is None else ended)
    share_run(run)
    return run


def execute_side_by_side(
    experiments: Sequence[Experiment],
    paths: Sequence[Path | None],
    fields: dict[str, list[float]],
    checkpoint_seconds: float,
    tracker: Tracker | None = None,
) -> list[Run] | None:
    """The runs of new experiments, trained side by side on one device; None if one of them has a checkpoint.

    Args:
        experiments: the experiments, which differ only in the seed and in fields of the optimizer.
        paths: the folder of each run; None: in memory.
        fields: the fields of the optimizer that differ, as `train_side_by_side` takes them.
        checkpoint_seconds: time from one checkpoint to the next, at least.
        tracker: mirrors the runs; None: they are not mirrored.
    """
    fit = experiments[0].fit(1)
    runs = [make_ready(experiment, path) for experiment, path in zip(experiments, paths, strict=True)]
    training_chunks(runs[0], fit)  # for its errors: the other runs differ from it only in numbers
    with contextlib.ExitStack() as locks:
        for path in paths:
            if path is not None:
                locks.enter_context(folder.lock(path))
        if any(state is not None for state, _ in [open_folder(run, fit) for run in runs]):
            return None
        setups = [experiment.setup(1) for experiment in experiments]
        outcomes = train_side_by_side(runs[0].problem, runs[0].prepared.streams["train"], setups, fields)
        record(runs, outcomes, fit, checkpoint_seconds, tracker=tracker)
    return runs


def mirror_finished(run: Run, tracker: Tracker | None) -> None:
    """Mirrors a run that is not trained again."""
    with contextlib.closing(SafeMirror(tracker, run.path, len(run.metrics))) as mirror:
        mirror.update(run.metrics)


def make_ready(experiment: Experiment, path: Path | None) -> Run:
    """A run with its data, before anything is written.

    Raises:
        Error: the data cannot be read, or the run cannot be saved in its folder.
    """
    if path is not None:
        config_bytes(experiment)
    source = None if experiment.init_from is None else Run.open(experiment.init_from)
    data = experiment.prepare()
    is_anew = TOKENIZER in experiment.init_anew
    if source and not is_anew and same_tokenizer(source.experiment, experiment) and _is_alike(source, data):
        data = experiment.prepare(source.codec)
    tokenizer = resolve_tokenizer(experiment.tokenizer, data.source)
    return Run(dataclasses.replace(experiment, tokenizer=tokenizer), data.codec, data.spec, path=path, _prepared=data)


def _is_alike(source: Run, data: Prepared) -> bool:
    """Whether the codec of a run can read other data: a text, or values of the same widths."""
    is_text = isinstance(source.codec, TextCodec) and isinstance(data.codec, TextCodec)
    return is_text or (type(source.codec) is type(data.codec) and source.spec == data.spec)


def same_tokenizer(one: Experiment, other: Experiment) -> bool:
    """Whether the data of two experiments are read by equal tokenizers, so that a codec serves both."""
    tables = [experiment.tokenizer or create("tokenizer", DEFAULT_TOKENIZER) for experiment in (one, other)]
    return tables[0] == tables[1]


def initial_params(run: Run, given: Params | None) -> Params | None:
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
    source = Run.open(e.init_from, e.init_which)
    if not e.init_anew:
        check_tokens(source.codec, run.codec, e.init_from)
    return params_from(source.params, run.problem, e.setup(), e.init_anew, e.init_from)


def training_chunks(
    run: Run, fit: Fit, state: TrainState | None = None, progress: Progress | None = None
) -> Iterator[tuple[TrainState, Progress]]:
    """The chunks of the training of a run, as `Fit.train` yields them.

    It is called before the folder of a new run is made, so that an experiment with an error leaves no folder behind.

    Raises:
        Error: the run cannot be trained.
    """
    resolve(run.experiment.metrics, run.spec)
    return fit.train(run.problem, run.prepared.streams["train"], state, progress)

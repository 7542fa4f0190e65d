"""`Experiment.run`: starts or resumes a run, and trains it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.data.prepare import DEFAULT_TOKENIZER, Prepared, resolve_tokenizer
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.plugin.config import create
from seqjax.runs import folder
from seqjax.runs.begin import ended_run, open_folder
from seqjax.runs.experiment import Experiment, config_bytes
from seqjax.runs.progress import Display
from seqjax.runs.record import complete, outcomes_of, record
from seqjax.runs.run import Run
from seqjax.runs.warm_start import check_tokens, params_from
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.loop import Progress, train_side_by_side
from seqjax.training.metrics import resolve


class Options(NamedTuple):
    """The options of `Experiment.run`, which has their documentation."""

    devices: int | None = None
    progress: bool = False
    checkpoint_seconds: float = 30.0
    params: Params | None = None
    callback: Callable[[Run], Any] | None = None


def execute(experiment: Experiment, path: Path | None, options: Options) -> Run:
    """Trains in memory or in a folder. Resumes an interrupted run, and opens a finished one."""
    run = ended_run(experiment, path)
    if run is not None and run.finished:
        if options.progress:
            print(f"opened   {path}: it is finished, and was not trained again")
        complete(run)
        return run
    run = make_ready(experiment, path)
    fit = experiment.fit(options.devices, initial_params(run, options.params))
    chunks = training_chunks(run, fit)
    with contextlib.nullcontext() if path is None else folder.lock(path):
        ended = ended_run(experiment, path)  # again: another process may just have released the folder
        if ended is not None and ended.finished:
            return ended
        state, done = open_folder(run, fit)
        if state is not None:
            chunks = iter(()) if run.finished else training_chunks(run, fit, state, done)
        with Display(run, options.progress, fit) as display:
            record([run], outcomes_of(chunks), fit, options.checkpoint_seconds, display.row, options.callback)
    return run


def execute_side_by_side(
    experiments: Sequence[Experiment],
    paths: Sequence[Path | None],
    fields: dict[str, list[float]],
    checkpoint_seconds: float,
) -> list[Run] | None:
    """The runs of new experiments, trained side by side on one device; None if one of them has a checkpoint.

    Args:
        experiments: the experiments, which differ only in the seed and in fields of the optimizer.
        paths: the folder of each run; None: in memory.
        fields: the fields of the optimizer that differ, as `train_side_by_side` takes them.
        checkpoint_seconds: time from one checkpoint to the next, at least.
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
        record(runs, outcomes, fit, checkpoint_seconds)
    return runs


def make_ready(experiment: Experiment, path: Path | None) -> Run:
    """A run with its data, before anything is written."""
    source = None if experiment.init_from is None else Run.open(experiment.init_from)
    data = experiment.prepare()
    if source and same_tokenizer(source.experiment, experiment) and _is_alike(source, data):
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
    source = Run.open(e.init_from)
    if not e.init_anew:
        check_tokens(source.codec, run.codec, e.init_from)
    return params_from(source.params, run.problem, e.setup(), e.init_anew, e.init_from)


def training_chunks(
    run: Run, fit: Fit, state: TrainState | None = None, progress: Progress | None = None
) -> Iterator[tuple[TrainState, Progress]]:
    """The chunks of the training of a run, as `Fit.train` yields them.

    It is called before the folder of a new run is made, so that an experiment with an error leaves no folder behind.

    Raises:
        Error: the run cannot be trained, or cannot be saved in its folder.
    """
    if run.path is not None:
        config_bytes(run.experiment)
    resolve(run.experiment.metrics, run.spec)
    return fit.train(run.problem, run.prepared.streams["train"], state, progress)

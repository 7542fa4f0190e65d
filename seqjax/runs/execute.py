"""`Experiment.run`: starts or resumes a run, trains, records and finishes it."""

import contextlib
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from seqjax.data.prepare import prepare, resolve_tokenizer
from seqjax.data.spec import Tokens
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error, escape
from seqjax.files import PART, disk_errors, sync, write
from seqjax.runs import checkpoint, folder
from seqjax.runs.environment import changes, copy_local_plugins, environment
from seqjax.runs.experiment import Experiment, config_bytes, differences, read_experiment
from seqjax.runs.interrupt import leave, noticed
from seqjax.runs.progress import Display
from seqjax.runs.run import COLUMNS, NO_SAMPLES, Run
from seqjax.training.epoch import TrainState
from seqjax.training.evaluate import evaluate, perplexity
from seqjax.training.fit import Fit
from seqjax.training.loop import Diverged, Outcome, Progress, init_train_state, train_side_by_side


def execute(
    experiment: Experiment, path: Path | None, devices: int | None, progress: bool, checkpoint_seconds: float
) -> Run:
    """Trains in memory or in a folder. Resumes an interrupted run, and opens a finished one."""
    run = ended_run(experiment, path)
    if run is not None and run.finished:
        if progress:
            print(f"opened   {path}: it is finished, and was not trained again")
        complete(run)
        return run
    run, fit = make_ready(experiment, path), experiment.fit(devices)
    chunks = training_chunks(run, fit)
    with contextlib.nullcontext() if path is None else folder.lock(path):
        ended = ended_run(experiment, path)  # again: another process may just have released the folder
        if ended is not None and ended.finished:
            return ended
        state, done = open_folder(run, fit)
        if state is not None:
            chunks = training_chunks(run, fit, state, done)
        with Display(run, progress, fit) as display:
            _record([run], _outcomes(chunks), fit, checkpoint_seconds, display.row)
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
        _record(runs, outcomes, fit, checkpoint_seconds)
    return runs


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
    problems = differences(kept, experiment)
    if problems:
        raise Error(f"{path} holds a run of another experiment; choose another folder", problems=problems)
    run = Run.open(path) if (path / folder.PARAMS).is_file() else None
    if run is not None:
        run.check_dataset(experiment.dataset.load())
    return run


def make_ready(experiment: Experiment, path: Path | None) -> Run:
    """A run with its data, before anything is written."""
    data = prepare(experiment.dataset, experiment.train, experiment.heldout, experiment.tokenizer)
    tokenizer = resolve_tokenizer(experiment.tokenizer, data.source)
    return Run(dataclasses.replace(experiment, tokenizer=tokenizer), data.codec, data.spec, path=path, _prepared=data)


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
    return fit.train(run.problem, run.prepared.streams["train"], state, progress)


def open_folder(run: Run, fit: Fit) -> tuple[TrainState | None, Progress | None]:
    """Makes the folder of a run, or reads its last checkpoint; None: training starts at update 0."""
    if run.path is None:
        return None, None
    folder.remove_parts(run.path)
    if not (run.path / folder.CONFIG).is_file():
        _create(run, fit)
        return None, None
    check_environment(run, fit)
    state, progress = _resume(run)
    with disk_errors(run.path):
        # A run that diverged is trained again. Its parameters are deleted before the mark that it diverged: parameters
        # without the mark are those of a finished run, from which nothing may be deleted.
        (run.path / folder.PARAMS).unlink(missing_ok=True)
        (run.path / folder.DIVERGED).unlink(missing_ok=True)
    return state, progress


def _create(run, fit):
    """Writes the files that precede training. The config comes last, since it marks the folder as a run."""
    record = _environment(run, fit)
    write(run.path / folder.ENVIRONMENT, json.dumps(record, indent=2) + "\n")
    write(run.path / folder.CODEC, run.codec_text)
    folder.write_rows(run.path, [])
    copy_local_plugins(run.path, run.experiment)
    if run.experiment.dataset is run.data:
        folder.write_data(run.path, run.data)
    write(run.path / folder.CONFIG, config_bytes(run.experiment))


def _environment(run, fit):
    return environment(run.experiment, run.data.sha256, fit.num_devices)


def check_environment(run: Run, fit: Fit, but: Container[str] = ()) -> None:
    """Raises an `Error` unless dataset and environment are those with which the run in `run.path` was begun."""
    assert run.path is not None
    run.check_dataset(run.data)
    now = _environment(run, fit)
    problems = folder.read(run.path / folder.ENVIRONMENT, lambda data: changes(json.loads(data), now, but))
    if problems:
        raise Error(
            f"{run.path} was begun in another environment, so that its result could change here\n"
            "Resume it in that environment (--devices sets the number of devices), or train in another folder:",
            problems=problems,
            exit_code=4,
        )


def _resume(run):
    """Reads the last checkpoint of an interrupted run, and the rows that were written before it."""
    last = checkpoint.newest(run.path)
    if last is None:
        folder.write_rows(run.path, [])
        return None, None
    if folder.read(run.path / folder.CODEC, lambda data: data.decode("utf-8")) != run.codec_text:
        raise Error(f"{run.path}: its tokenizer no longer gives the ids that it was trained on", exit_code=4)
    run.metrics = folder.read_rows(run.path)[: last.progress.epochs_done]
    if len(run.metrics) < last.progress.epochs_done:
        raise Error(
            f"{run.path / folder.METRICS}: it does not have a row for each of the {last.progress.epochs_done} epochs "
            "that were trained; train in another folder",
            exit_code=4,
        )
    folder.write_rows(run.path, run.metrics)
    state = checkpoint.restore(last, init_train_state(run.problem, run.experiment.setup(), 1))
    run.params = state.params
    return state, last.progress


def _outcomes(chunks: Iterable[tuple[TrainState, Progress]]) -> Iterator[list[Outcome]]:
    """The chunks of one run, in the form in which `train_side_by_side` yields those of several."""
    try:
        for chunk in chunks:
            yield [chunk]
    except Diverged as fault:
        yield [fault]


def _record(
    runs: Sequence[Run],
    outcomes: Iterable[Sequence[Outcome]],
    fit: Fit,
    checkpoint_seconds: float,
    show: Callable[[dict[str, Any]], None] = lambda row: None,
) -> None:
    """Trains runs until they end or are interrupted. If a single run diverges, raises `Diverged`."""
    recorders = [Recorder(run, fit, checkpoint_seconds) for run in runs]
    in_folders = all(run.path is not None for run in runs)
    where = f"{runs[0].path}" if len(runs) == 1 else f"the folders of {len(runs)} runs"
    with noticed() if in_folders else contextlib.nullcontext(lambda: None) as interrupted:
        for each in outcomes:
            ended = [recorder.take(outcome) for recorder, outcome in zip(recorders, each, strict=True)]
            if (exit_code := interrupted()) and not all(run.finished or run.diverged for run in runs):
                for recorder in recorders:
                    recorder.save()  # before printing, which may fail
                leave(
                    f"interrupted at update {recorders[0].update:,}, and saved in {where}\n"
                    "The same experiment in the same folder resumes from there",
                    exit_code,
                )
            for run, has_ended in zip(runs, ended, strict=True):
                if has_ended:
                    show(run.metrics[-1])
        for recorder in recorders:
            recorder.finish()
        if exit_code := interrupted():  # these runs are complete, but no other run may follow
            leave(f"interrupted at the end of training; the result is saved in {where}", exit_code)
    if len(runs) == 1 and recorders[0].fault:
        raise recorders[0].fault


class Recorder:
    """Records a run during training: its rows, its parameters and, if it has a folder, its checkpoints."""

    def __init__(self, run: Run, fit: Fit, checkpoint_seconds: float):
        self.run, self.fit, self.checkpoint_seconds = run, fit, checkpoint_seconds
        self.fault: Diverged | None = None
        self.saved = time.monotonic()
        self.bound = None if run.path is None else folder.binding(run.path)
        self.last: tuple[TrainState, Progress] | None = None

    @property
    def update(self) -> int:
        """The number of updates made."""
        return 0 if self.last is None else int(self.last[0].update)

    def take(self, outcome: Outcome) -> bool:
        """Takes the outcome of a chunk of training. Returns whether it ended an epoch."""
        run = self.run
        if outcome is None:
            return False
        if isinstance(outcome, Diverged):
            self.fault = self._keep_last_good(outcome)
            return False
        self.last = state, progress = outcome
        if progress.done:
            run.params = jax.device_put(state.params, jax.devices()[0])
            run.metrics.append(_with_heldout(run, self.fit.row(state, progress)))
            if run.path is not None:
                folder.append_row(run.path, run.metrics[-1])
        if time.monotonic() - self.saved >= self.checkpoint_seconds:
            self.save()
        return progress.done

    def save(self) -> None:
        """Writes a checkpoint, unless the run has no folder, is finished or has diverged."""
        if self.run.path is None or self.bound is None or self.last is None or self.run.finished or self.run.diverged:
            return
        checkpoint.save(self.run.path, *self.last, self.bound)
        self.saved = time.monotonic()

    def _keep_last_good(self, fault: Diverged) -> Diverged:
        """Saves the run as it was before the update that diverged, and returns the error with this run.

        The parameters are written last, since a folder with parameters counts as ended: without them the run resumes
        from its checkpoint, and diverges again.
        """
        run = self.run
        run.params, run.diverged = fault.state.params, True
        if run.path is None or self.bound is None:
            return Diverged(str(fault), fault.state, run)
        write(run.path / folder.DIVERGED, f"{fault}\n")
        folder.write_params(run.path, run.params, self.bound)
        return Diverged(f"{fault}\nThe parameters before it are in {run.path / folder.PARAMS}", fault.state, run)

    def finish(self) -> None:
        """Writes the results of training. The parameters come first, since all other files can be made from them."""
        if self.run.path is None or self.bound is None or self.run.diverged:
            return
        with disk_errors(self.run.path):
            sync(self.run.path / folder.METRICS)
        folder.write_params(self.run.path, self.run.params, self.bound)
        _write_views(self.run)
        checkpoint.delete_all(self.run.path)


def complete(run: Run) -> None:
    """Writes the files that a finished run lacks after a kill, and removes its checkpoints."""
    assert run.path is not None
    has_all = (run.path / folder.HISTORY).exists() or not run.experiment.fit().has_curve
    has_all &= (run.path / folder.SAMPLES).exists() or not isinstance(run.codec, TextCodec)
    if has_all and not (run.path / folder.CHECKPOINTS).exists():
        return
    with folder.lock(run.path):
        folder.remove_parts(run.path)
        _write_views(run)
        checkpoint.delete_all(run.path)


def _write_views(run):
    """Writes samples and learning curve. If no samples can be made, their file holds the reason."""
    if run.samples:
        if NO_SAMPLES in run.samples:
            print(f"warning  {NO_SAMPLES}: {escape(run.samples[NO_SAMPLES])}; the parameters are saved")
        text = "\n\n".join(f"--- {how} ---\n{text}" for how, text in run.samples.items())
        write(run.path / folder.SAMPLES, (text + "\n").encode("utf-8", "backslashreplace"))
    if run.experiment.fit().has_curve:
        image = io.BytesIO()
        run.plot().savefig(image, dpi=150, format="png")
        write(run.path / folder.HISTORY, image.getvalue())


def _with_heldout(run, row):
    """The row of an epoch with the held-out loss beside the training loss."""
    due = row["epoch"] % run.experiment.evaluate_every == 0 or row["epoch"] == run.experiment.epochs
    heldout = evaluate(run.problem, run.params, run.prepared.streams["heldout"])["loss"] if due else math.nan
    row = row | {"heldout_loss": heldout}
    if isinstance(run.spec.targets, Tokens):
        row |= {f"{part}_perplexity": perplexity(row[f"{part}_loss"]) for part in ("train", "heldout")}
    return {name: row[name] for name in (*COLUMNS, *row) if name in row}

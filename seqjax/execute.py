"""What `Experiment.run` does: start or go on, train, record, finish."""

import dataclasses
import json
import math
import time
from collections.abc import Container, Iterator
from contextlib import nullcontext
from pathlib import Path

import jax

from seqjax import checkpoint, folder
from seqjax.check import check_model
from seqjax.data import prepare, resolve_tokenizer
from seqjax.devices import make_mesh
from seqjax.display import Display
from seqjax.environment import changes, copy_local_plugins, environment
from seqjax.errors import Error
from seqjax.evaluate import evaluate, perplexity
from seqjax.experiment import Experiment
from seqjax.interrupt import leave, noticed
from seqjax.recipe import differences, read_recipe, recipe_file
from seqjax.run import COLUMNS, Run
from seqjax.specs import Tokens
from seqjax.train import Diverged, Progress, TrainState, check_training, init_train_state, metrics_row, train_in_chunks


def execute(
    experiment: Experiment, path: Path | None, devices: int | None, progress: bool, checkpoint_seconds: float
) -> Run:
    """Trains in memory, or in a folder: a new one, or that of an interrupted run. Opens a finished one."""
    run = ended_run(experiment, path)
    if run is not None and run.finished:
        if progress:
            print(f"opened   {path}: it is finished, and was not trained again")
        return run
    run = make_ready(experiment, path)
    check(run, devices)
    with nullcontext() if path is None else folder.lock(path):
        ended = ended_run(experiment, path)  # again: another process may just have let go of the folder
        if ended is not None and ended.finished:
            return ended
        if experiment.model.is_counted:
            begin(run, devices)
            return _count(run, progress)
        chunks = start(run, devices, *begin(run, devices))
        return _record(run, chunks, devices, progress, checkpoint_seconds)


def ended_run(experiment: Experiment, path: Path | None) -> Run | None:
    """The run in a folder, if it is finished or has diverged.

    Raises:
        Error: the folder holds a run of another recipe, or other things than a run; the corpus has changed (exit
            code 4).
    """
    if path is None or not path.is_dir() or not any(file.name != folder.LOCK for file in path.iterdir()):
        return None
    if not (path / folder.CONFIG).is_file():
        strange = sorted(
            file.name for file in path.iterdir() if file.name.removesuffix(folder.PART) not in folder.FIRST
        )
        if strange:
            raise Error(f"{path} holds no run, but {', '.join(strange[:3])}; choose another folder")
        return None
    kept = read_recipe(path)
    problems = differences(kept, experiment)
    if problems:
        raise Error(f"{path} holds a run of another recipe; choose another folder", problems=problems)
    run = Run.open(path) if (path / folder.PARAMS).is_file() else None
    if run is None or not (run.finished or run.diverged):
        return None
    run.check_corpus(experiment.corpus.load())
    return run


def make_ready(experiment: Experiment, path: Path | None) -> Run:
    """A run with its data, before anything is written."""
    data = prepare(experiment.corpus, experiment.train, experiment.heldout, experiment.tokenizer)
    e = dataclasses.replace(experiment, tokenizer=resolve_tokenizer(experiment.tokenizer, data.source))
    check_model(e.model, data.spec)
    return Run(e, data.codec, data.spec, path=path, _prepared=data)


def check(run: Run, devices: int | None) -> None:
    """Raises an `Error` for what cannot be trained, or cannot be kept in a folder."""
    e, stream = run.experiment, run.prepared.streams["train"]
    if run.path is not None:
        recipe_file(e)
    if e.model.is_counted:
        return
    check_training(run.problem, stream, e.sampler, e.gradient, e.optimizer, e.epochs, e.seed, devices)


def start(
    run: Run, devices: int | None, state: TrainState | None, progress: Progress | None
) -> Iterator[tuple[TrainState, Progress]]:
    """The training of a run, from the start or from where it was interrupted."""
    e, stream = run.experiment, run.prepared.streams["train"]
    options = (e.sampler, e.gradient, e.optimizer, e.epochs, e.seed, None, state, devices, progress)
    return train_in_chunks(run.problem, stream, *options)


def begin(run: Run, devices: int | None) -> tuple[TrainState | None, Progress | None]:
    """Makes the folder of a run, or reads how far it has come; None: it is at its start."""
    if run.path is None:
        return None, None
    if not (run.path / folder.CONFIG).is_file():
        _create(run, devices)
        return None, None
    check_environment(run, devices)
    state, progress = _go_on(run)
    with folder.disk_errors(run.path):  # of a run that diverged: one that is trained has neither
        for name in (folder.DIVERGED, folder.PARAMS):
            (run.path / name).unlink(missing_ok=True)
    return state, progress


def _create(run, devices):
    """Writes what is known before training; the recipe last, which marks a folder as a run's."""
    record = _environment(run, devices)
    folder.write(run.path / folder.ENVIRONMENT, json.dumps(record, indent=2) + "\n")
    folder.write(run.path / folder.CODEC, run.codec_text)
    folder.write_rows(run.path / folder.METRICS, [])
    copy_local_plugins(run.path, run.experiment)
    if run.experiment.corpus is run.data:
        folder.write_data(run.path / folder.DATA, run.data)
    folder.write(run.path / folder.CONFIG, recipe_file(run.experiment))


def _environment(run, devices):
    e = run.experiment
    used = 1 if e.model.is_counted else make_mesh(e.sampler.batch_size, devices).size
    return environment(run.experiment, run.data.sha256, used)


def check_environment(run: Run, devices: int | None, but: Container[str] = ()) -> None:
    """Refuses another corpus or environment than that in which the run in `run.path` was begun."""
    assert run.path is not None
    run.check_corpus(run.data)
    now = _environment(run, devices)
    problems = folder.read(run.path / folder.ENVIRONMENT, lambda data: changes(json.loads(data), now, but))
    if problems:
        raise Error(
            f"{run.path} was begun in another environment, in which it would come to another result\n"
            "Go on in that one (the number of devices is --devices), or train anew in another folder:",
            problems=problems,
            exit_code=4,
        )


def _go_on(run):
    """Where an interrupted run goes on: at its last checkpoint, with the rows that were written before it."""
    last = checkpoint.newest(run.path)
    rows = folder.read_rows(run.path / folder.METRICS)
    if last is None:
        folder.write_rows(run.path / folder.METRICS, [])
        return None, None
    if last.codec != run.codec_text:
        raise Error(f"{run.path}: its tokenizer no longer gives the ids that it was trained on", exit_code=4)
    run.metrics = rows[: last.progress.epochs_done]
    if [row.get("epoch") for row in run.metrics] != list(range(1, last.progress.epochs_done + 1)):
        raise Error(
            f"{run.path / folder.METRICS}: it does not have a row for each of the {last.progress.epochs_done} epochs "
            "that were trained; train in another folder",
            exit_code=4,
        )
    folder.write_rows(run.path / folder.METRICS, run.metrics)
    e = run.experiment
    like = init_train_state(run.problem, e.gradient, e.optimizer, 1, e.sampler.batch_size, e.seed)
    state = checkpoint.restore(last, like)
    run.params = state.params
    return state, last.progress


def _count(run, show):
    """Counts, which is the only epoch of such a model."""
    with Display(run, show) as display:
        stream, began = run.prepared.streams["train"], time.perf_counter()
        run.params = jax.tree.map(jax.numpy.asarray, run.experiment.model.count(stream, run.spec))
        seconds, tokens = time.perf_counter() - began, len(stream.targets)
        row = {"epoch": 1, "update": 0, "tokens": tokens, "seconds": seconds, "compile_seconds": 0.0}
        row |= {"train_loss": evaluate(run.problem, run.params, stream)["loss"], "grad_norm": math.nan}
        row |= {"learning_rate": math.nan, "tokens_per_second": tokens / seconds}
        run.metrics = [_with_heldout(run, row)]
        if run.path is not None:
            folder.write_rows(run.path / folder.METRICS, run.metrics)
        display.row(run.metrics[-1])
    finish(run)
    return run


def _record(run, chunks, devices, show, checkpoint_seconds):
    """Trains to the end, or to where it is interrupted."""
    with Display(run, show, devices) as display, noticed() if run.path else nullcontext(lambda: None) as interrupted:
        recorder = Recorder(run, checkpoint_seconds)
        try:
            for state, progress in chunks:
                recorder.add(state, progress)
                if (exit_code := interrupted()) and not run.finished:
                    recorder.save(state, progress)  # before anything is printed, which may fail
                    leave(
                        f"interrupted at update {int(state.update):,}, and saved in {run.path}\n"
                        "The same recipe in the same folder goes on from there",
                        exit_code,
                    )
                if progress.done:
                    display.row(run.metrics[-1])
        except Diverged as fault:
            raise keep_last_good(run, fault) from fault
        finish(run)
        if exit_code := interrupted():  # too late for this run, but not for what may follow it
            leave(f"interrupted when {run.path} had come to its end; it is saved", exit_code)
    return run


class Recorder:
    """Keeps the rows of a run that is trained, and its checkpoints where it has a folder."""

    def __init__(self, run: Run, checkpoint_seconds: float):
        self.run, self.checkpoint_seconds = run, checkpoint_seconds
        self.saved = time.monotonic()

    def add(self, state: TrainState, progress: Progress) -> None:
        """Takes what training yields after a chunk."""
        run = self.run
        if progress.done:
            run.params = jax.device_put(state.params, jax.devices()[0])
            run.metrics.append(_with_heldout(run, metrics_row(state, progress)))
            if run.path is not None:
                folder.append_row(run.path / folder.METRICS, run.metrics[-1])
        if run.path is not None and time.monotonic() - self.saved >= self.checkpoint_seconds:
            self.save(state, progress)

    def save(self, state: TrainState, progress: Progress) -> None:
        """Writes a checkpoint."""
        assert self.run.path is not None
        checkpoint.save(self.run.path, state, progress, self.run.codec_text)
        self.saved = time.monotonic()


def _with_heldout(run, row):
    """The row of an epoch with the held-out loss beside the training loss."""
    due = row["epoch"] % run.experiment.evaluate_every == 0 or row["epoch"] == run.experiment.epochs
    heldout = evaluate(run.problem, run.params, run.prepared.streams["heldout"])["loss"] if due else math.nan
    row = row | {"heldout_loss": heldout}
    if isinstance(run.spec.targets, Tokens):
        row |= {f"{part}_perplexity": perplexity(row[f"{part}_loss"]) for part in ("train", "heldout")}
    return {name: row[name] for name in COLUMNS if name in row}


def keep_last_good(run: Run, fault: Diverged) -> Diverged:
    """The fault again, with the run as it was before the update that diverged, which is written down.

    The file that marks it as diverged comes last: a run without it goes on from its checkpoint, and diverges again.
    """
    run.params, run.diverged = fault.state.params, True
    if run.path is None:
        return Diverged(str(fault), fault.state, run)
    folder.write_params(run.path / folder.PARAMS, run.params, run.codec_text)
    folder.write(run.path / folder.DIVERGED, f"{fault}\n")
    return Diverged(f"{fault}\nThe parameters before it are in {run.path / folder.PARAMS}", fault.state, run)


def finish(run: Run) -> None:
    """Writes what is known after training; the parameters last, which mark a run that is finished."""
    if run.path is None:
        return
    if run.samples:
        text = "\n\n".join(f"--- {how} ---\n{text}" for how, text in run.samples.items())
        folder.write(run.path / folder.SAMPLES, (text + "\n").encode("utf-8", "backslashreplace"))
    with folder.disk_errors(run.path):
        if not run.experiment.model.is_counted:
            run.plot().savefig(run.path / folder.HISTORY, dpi=150)
        folder.sync(run.path / folder.METRICS)
    folder.write_params(run.path / folder.PARAMS, run.params, run.codec_text)
    checkpoint.delete_all(run.path)

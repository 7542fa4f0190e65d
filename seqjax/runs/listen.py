"""Trains runs until they end: decides when a checkpoint is due and what Ctrl-C saves, and tells the listeners."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.columns import row_of
from seqjax.runs.files import folder
from seqjax.runs.files.rows import Row
from seqjax.runs.state import RunState
from seqjax.signals import leave, noticed
from seqjax.training.epoch import TrainState, copy_of
from seqjax.training.evaluating import has_perplexity
from seqjax.training.fit import Fit
from seqjax.training.loop import Diverged, Outcome, stepping
from seqjax.training.metrics import name_of
from seqjax.training.processes import exchange, failing_together, from_first, whole
from seqjax.training.progress import Progress, end_of_epoch


class Listener:
    """What is done while a run is trained. It has no collective operations, since processes have other listeners."""

    def epoch(self) -> None:
        """Called after an epoch, whose row is in `run.metrics`, before a checkpoint that is due."""

    def part(self, progress: Progress) -> None:
        """Called after each chunk, when a checkpoint that was due is written."""

    def save(self, state: TrainState, progress: Progress) -> None:
        """Called when a checkpoint is due, with the whole state."""

    def end(self, fault: Diverged | None) -> None:
        """Called when training has ended, with the error of a run that has diverged."""


def chunks_of_one(chunks: Iterable[tuple[TrainState, Progress]]) -> Iterator[list[Outcome]]:
    """The chunks of one run, in the form in which `train_side_by_side` yields those of several."""
    try:
        for chunk in chunks:
            yield [chunk]
    except Diverged as fault:
        yield [fault]


def listen(chunks: Iterable[Sequence[Outcome]], trainings: Sequence["Training"], checkpoint_seconds: float) -> None:
    """Trains runs until they end or are interrupted. A run that diverges has the `fault`.

    If several processes train a run, its path is None in all but the first, which alone writes files. What decides on
    the next collective operation is exchanged once a chunk: signals, and whether a checkpoint is due.

    Args:
        chunks: the outcomes of the chunks of each run.
        trainings: the runs, one of them, or several that are trained side by side.
        checkpoint_seconds: least time from one checkpoint to the next, in seconds.
    """
    with _noticed_signals(trainings) as interrupted:
        saved = time.monotonic()
        for outcomes in chunks:
            taken = [training.take(outcome) for training, outcome in zip(trainings, outcomes, strict=True)]
            signals = exchange([interrupted() or 0, time.monotonic() - saved >= checkpoint_seconds])
            exit_code, is_due = max(code for code, _ in signals), signals[0][1]
            is_over = all(training.has_ended for training in trainings)
            if is_over:
                exit_code, is_due = 0, False  # the results are about to be written
            if exit_code or is_due:
                for training in trainings:
                    training.save()
                saved = time.monotonic()
            if exit_code:
                leave(
                    f"interrupted at update {trainings[0].update:,}, and saved in {_where(trainings)}\n"
                    "The same experiment in the same folder resumes from there",
                    exit_code,
                )
            for training, progress in zip(trainings, taken, strict=True):
                if progress is not None:
                    training.tell(progress)
            if is_over:
                break
        for training in trainings:
            training.save()
        with failing_together():
            for training in trainings:
                training.end()
        if exit_code := max(exchange(interrupted() or 0)):  # these runs are complete, but no other run may follow
            leave(f"interrupted at the end of training; the result is saved in {_where(trainings)}", exit_code)


@contextlib.contextmanager
def _noticed_signals(trainings: Sequence["Training"]) -> Iterator[Callable[[], int | None]]:
    """A context in which signals wait until something can be saved; without folders, they behave as usual."""
    stepping.clear()

    def can_lose():
        """Whether updates were begun that no checkpoint has; other processes would not end with this one."""
        is_begun = stepping.is_set() or any(training.last is not None for training in trainings)
        return is_begun or jax.process_count() > 1

    if from_first(all(training.run.path is not None for training in trainings)):
        with noticed(can_lose) as interrupted:
            yield interrupted
    else:
        yield lambda: None


def _where(trainings: Sequence["Training"]) -> str:
    """The folder of a run, or how many there are. All processes call it."""
    return from_first(f"{trainings[0].run.path}" if len(trainings) == 1 else f"the folders of {len(trainings)} runs")


class Training:
    """A run in training.

    Args:
        run: the run, whose parameters and metrics are those of its last epoch.
        fit: how it is fitted.
        listeners: what listens to it, in this order. Those that write are in the first process alone.
        callback: as in `Experiment.run`.
    """

    def __init__(
        self, run: RunState, fit: Fit, listeners: Sequence[Listener], callback: Callable[[Any], Any] | None = None
    ):
        self.run, self.fit, self.listeners, self.callback = run, fit, listeners, callback
        self.problem = run.problem.fixed()
        self.fault: Diverged | None = None
        self.last: tuple[TrainState, Progress] | None = None

    @property
    def update(self) -> int:
        """The number of updates made."""
        return 0 if self.last is None else int(self.last[0].update)

    @property
    def has_ended(self) -> bool:
        """Whether no chunk is left of this run; others that are trained beside it may go on."""
        return self.run.finished or self.run.diverged

    def take(self, outcome: Outcome) -> Progress | None:
        """Takes the outcome of a chunk of training, and returns its progress; None: nothing was trained."""
        if self.has_ended:
            return None
        if isinstance(outcome, Diverged):
            assert outcome.state is not None  # it diverged in this process
            self.run.params, self.run.diverged, self.fault = outcome.state.params, True, outcome
            return None
        self.last = state, progress = outcome
        if progress.done:
            self._end_epoch(state, progress)
        return progress

    def tell(self, progress: Progress) -> None:
        """Tells the listeners of the chunk; what they print must not come before a checkpoint."""
        for listener in self.listeners:
            listener.part(progress)

    def _end_epoch(self, state: TrainState, progress: Progress) -> None:
        run = self.run
        # A copy: the next chunk reuses the buffers of the state.
        run.params = copy_of(jax.device_put(whole(state.params), jax.local_devices()[0]))
        run.__dict__.pop("samples", None)  # a callback may have read those of other parameters
        run.metrics.append(from_first(_row(run, self.problem, self.fit, state, progress)))
        if run.experiment.keep == "best" and run.best_epoch == run.metrics[-1]["epoch"]:
            run.kept_best = run.params
        for listener in self.listeners:
            listener.epoch()
        # Before the checkpoint: a run that continues after it would not call it for this epoch again.
        self._call_back()

    def _call_back(self) -> None:
        """Calls the user's function after an epoch. Training ends if it returns True in process 0."""
        run = self.run
        if self.callback is None:
            return
        try:
            ends = self.callback(run)
        except BaseException:
            if jax.process_count() == 1:  # the others would have to take part
                self.save()
            raise
        if from_first(isinstance(ends, bool | np.bool_) and bool(ends)) and not run.finished:
            run.stopped_at = run.metrics[-1]["epoch"]

    def save(self) -> None:
        """Makes a checkpoint, unless the run has diverged or has nothing to resume. All processes call it."""
        if self.last is None or self.run.diverged or not self.fit.has_curve:
            return
        state = whole(self.last[0])
        for listener in self.listeners:
            listener.save(state, self.last[1])

    def end(self) -> None:
        """Ends the run, whose results are known."""
        for listener in self.listeners:
            listener.end(self.fault)
        if self.fault is not None:
            self.fault = diverged(self.run, str(self.fault), self.fault.state)


def diverged(run: RunState, note: str, state: TrainState | None = None) -> Diverged:
    """The error of a run that has diverged.

    Args:
        run: the run.
        note: what happened.
        state: the state before it; None: the run was opened, and only its parameters are known.
    """
    where = "" if run.path is None else f"\nThe parameters before it are in {run.path / folder.PARAMS}"
    return Diverged(f"{note}{where}", state, run)


def _row(run: RunState, problem: Any, fit: Fit, state: TrainState, progress: Progress) -> Row:
    """The row of an epoch: the columns of all runs, then those of the gradient strategy and of the experiment."""
    epoch = end_of_epoch(state, progress)
    is_due = epoch.epoch % run.experiment.evaluate_every == 0 or epoch.epoch == run.experiment.epochs
    names = list(map(name_of, run.experiment.metrics))
    # The loss of the training part is the mean during the epoch. Its metrics need another pass through the data.
    parts = ("train", "heldout") if names else ("heldout",)
    values = {part: run.evaluate_stream(run.prepared.streams[part], problem) if is_due else {} for part in parts}
    epoch = epoch._replace(heldout=values["heldout"], has_perplexity=has_perplexity(problem))
    own = {f"{part}_{name}": values[part].get(name, math.nan) for name in names for part in parts}
    return row_of(epoch) | fit.own_metrics(state) | own

"""Records runs during training: rows, checkpoints, the best and the last parameters."""

import contextlib
import hashlib
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from seqjax.columns import row_of
from seqjax.models.model import ModelProblem
from seqjax.runs.files import checkpoint, folder, store
from seqjax.runs.files.arrays import by_name, save_arrays
from seqjax.runs.files.manifest import Manifest
from seqjax.runs.files.rows import Counted, Row, append_row, encode_rows
from seqjax.runs.state import RunState
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.runs.tracking.tracker import Tracker
from seqjax.runs.trained import NO_SAMPLES
from seqjax.signals import leave, noticed
from seqjax.terminal.stream import line
from seqjax.training.epoch import TrainState
from seqjax.training.evaluating import has_perplexity
from seqjax.training.fit import Fit
from seqjax.training.loop import Diverged, Outcome, Progress, copy_of, stepping
from seqjax.training.metrics import name_of
from seqjax.training.processes import exchange, from_first, in_all, whole


def outcomes_of(chunks: Iterable[tuple[TrainState, Progress]]) -> Iterator[list[Outcome]]:
    """The chunks of one run, in the form in which `train_side_by_side` yields those of several."""
    try:
        for chunk in chunks:
            yield [chunk]
    except Diverged as fault:
        yield [fault]


def record(
    runs: Sequence[RunState],
    outcomes: Iterable[Sequence[Outcome]],
    fit: Fit,
    checkpoint_seconds: float,
    show: Callable[[Row], None] = lambda row: None,
    show_part: Callable[[Progress], None] = lambda progress: None,
    callback: Callable[[Any], Any] | None = None,
    tracker: Tracker | None = None,
) -> None:
    """Trains runs until they end or are interrupted. If a single run diverges, raises `Diverged`.

    If several processes train a run, its path is None in all but the first, which alone writes files. What decides on
    the next collective operation is exchanged once a chunk: signals, and whether a checkpoint is due.

    Args:
        runs: the runs, one of them, or several that are trained side by side.
        outcomes: the outcomes of their chunks, as `train_side_by_side` yields them.
        fit: how they are fitted.
        checkpoint_seconds: least time from one checkpoint to the next, in seconds.
        show: shows the row of an epoch.
        show_part: shows how far an epoch is, after each chunk that does not end it.
        callback: as in `Experiment.run`.
        tracker: mirrors the runs; None: they are not mirrored.
    """
    recorders = [Recorder(run, fit, callback, tracker) for run in runs]
    in_folders = from_first(all(run.path is not None for run in runs))
    where = from_first(f"{runs[0].path}" if len(runs) == 1 else f"the folders of {len(runs)} runs")
    saved = time.monotonic()
    with contextlib.ExitStack() as stack:
        for recorder in recorders:
            stack.callback(recorder.mirror.close)  # when the results are written, or after an error
        stepping.clear()

        def can_lose():
            """Whether updates were begun that no checkpoint has; other processes would not end with this one."""
            is_begun = stepping.is_set() or any(recorder.last is not None for recorder in recorders)
            return is_begun or jax.process_count() > 1

        interrupted = stack.enter_context(noticed(can_lose) if in_folders else contextlib.nullcontext(lambda: None))
        for each in outcomes:
            ended = [recorder.take(outcome) for recorder, outcome in zip(recorders, each, strict=True)]
            signals = exchange([interrupted() or 0, time.monotonic() - saved >= checkpoint_seconds])
            exit_code, is_due = max(code for code, _ in signals), signals[0][1]
            if all(run.finished or run.diverged for run in runs):
                exit_code, is_due = 0, False  # the results are about to be written
            if exit_code or is_due:
                for recorder in recorders:
                    recorder.save()
                saved = time.monotonic()
            if exit_code:
                leave(
                    f"interrupted at update {recorders[0].update:,}, and saved in {where}\n"
                    "The same experiment in the same folder resumes from there",
                    exit_code,
                )
            for run, has_ended in zip(runs, ended, strict=True):
                if has_ended:
                    show(run.metrics[-1])
            if recorders[0].last is not None and not ended[0]:
                show_part(recorders[0].last[1])
            if all(run.finished or run.diverged for run in runs):
                break
        for recorder in recorders:
            recorder.save()
        in_all(lambda: _finish(recorders))
        if exit_code := max(exchange(interrupted() or 0)):  # these runs are complete, but no other run may follow
            leave(f"interrupted at the end of training; the result is saved in {where}", exit_code)
    exchange(None)  # no process leaves before the tracker of the first one has ended
    if len(runs) == 1 and recorders[0].fault:
        raise recorders[0].fault


def _finish(recorders: Iterable["Recorder"]) -> None:
    for recorder in recorders:
        recorder.finish()


class Recorder:
    """Records a run during training: its rows, its parameters and, if it has a folder, its checkpoints."""

    def __init__(self, run: RunState, fit: Fit, callback: Callable[[Any], Any] | None, tracker: Tracker | None):
        self.run, self.fit, self.callback = run, fit, callback
        self.problem = run.problem.fixed()
        self.mirror = SafeMirror(tracker, run.path, len(run.metrics))
        self.fault: Diverged | None = None
        self.last: tuple[TrainState, Progress] | None = None
        self.lines = hashlib.sha256(encode_rows(run.metrics))

    @property
    def update(self) -> int:
        """The number of updates made."""
        return 0 if self.last is None else int(self.last[0].update)

    def take(self, outcome: Outcome) -> bool:
        """Takes the outcome of a chunk of training. Returns whether it ended an epoch."""
        run = self.run
        if outcome is None or run.finished:  # it has diverged, or stopped early, beside other runs
            return False
        if isinstance(outcome, Diverged):
            assert outcome.state is not None  # it diverged in this process
            run.params, run.diverged, self.fault = outcome.state.params, True, outcome
            return False
        self.last = state, progress = outcome
        if progress.done:
            # A copy: the next chunk reuses the buffers of the state.
            run.params = copy_of(jax.device_put(whole(state.params), jax.local_devices()[0]))
            run.metrics.append(from_first(_row(run, self.problem, self.fit, state, progress)))
            if run.path is not None:
                self.lines.update(append_row(run.path, run.metrics[-1]))
            self.mirror.update(run.metrics)
            if run.experiment.keep == "best" and run.best_epoch == run.metrics[-1]["epoch"]:
                run.kept_best = run.params
            # Before the checkpoint: a run that continues after it would not call it for this epoch again.
            self._call_back()
        return progress.done

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
        """Writes a checkpoint, unless the run has no folder or has diverged. All processes call it."""
        run = self.run
        if self.last is None or run.diverged or not self.fit.has_curve:  # a count-based model has nothing to resume
            return
        state, progress = whole(self.last[0]), self.last[1]
        if run.path is not None:
            rows = Counted(len(run.metrics), self.lines.hexdigest())
            data = checkpoint.encode(state, progress, rows, run.kept_best)
            store.save_checkpoint(run.path, self.update, data, run.stopped_at)

    def finish(self) -> None:
        """Writes the results of a run that has ended."""
        run = self.run
        # A run that was resumed after its last epoch has no chunks left, so that its rows are sent here.
        self.mirror.update(run.metrics)
        if run.path is not None:
            ended = Manifest({}, "diverged" if run.diverged else "finished", str(self.fault or ""), run.stopped_at)
            store.end(run.path, result_files(run), ended)
        if self.fault is not None:
            self.fault = diverged(run, str(self.fault), self.fault.state)


def diverged(run: RunState, note: str, state: TrainState | None = None) -> Diverged:
    """The error of a run that has diverged.

    Args:
        run: the run.
        note: what happened.
        state: the state before it; None: the run was opened, and only its parameters are known.
    """
    where = "" if run.path is None else f"\nThe parameters before it are in {run.path / folder.PARAMS}"
    return Diverged(f"{note}{where}", state, run)


def result_files(run: RunState) -> dict[str, bytes]:
    """The files with the results of a run, by name: parameters, samples and learning curve.

    A run that diverged has the parameters alone. If no samples can be made, their file holds the reason.
    """
    files = {folder.PARAMS: save_arrays(by_name(run.params), {})}
    if run.kept_best is not None:
        files[folder.BEST] = save_arrays(by_name(run.kept_best), {})
    if run.diverged:
        return files
    if run.samples:
        if NO_SAMPLES in run.samples:
            line("warning", f"{NO_SAMPLES}: {run.samples[NO_SAMPLES]}; the parameters are saved")
        text = "\n\n".join(f"--- {how} ---\n{text}" for how, text in run.samples.items())
        files[folder.SAMPLES] = (text + "\n").encode("utf-8", "backslashreplace")
    if run.experiment.fit().has_curve:
        # Imported here: matplotlib would delay the start of a command.
        from seqjax.report import plot

        image = io.BytesIO()
        plot.history(run.metrics, title=plot.title_of([run.experiment])).savefig(image, dpi=150, format="png")
        files[folder.HISTORY] = image.getvalue()
    return files


def _row(run: RunState, problem: ModelProblem, fit: Fit, state: TrainState, progress: Progress) -> Row:
    """The row of an epoch: the columns of all runs, then those of the gradient strategy and of the experiment."""
    epoch = fit.end_of_epoch(state, progress)
    is_due = epoch.epoch % run.experiment.evaluate_every == 0 or epoch.epoch == run.experiment.epochs
    names = list(map(name_of, run.experiment.metrics))
    # The loss of the training part is the mean during the epoch. Its metrics need another pass through the data.
    parts = ("train", "heldout") if names else ("heldout",)
    values = {part: run.evaluate_stream(run.prepared.streams[part], problem) if is_due else {} for part in parts}
    epoch = epoch._replace(heldout=values["heldout"], has_perplexity=has_perplexity(problem))
    own = {f"{part}_{name}": values[part].get(name, math.nan) for name in names for part in parts}
    return row_of(epoch) | fit.own_metrics(state) | own

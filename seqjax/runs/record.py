"""Records runs during training: rows, checkpoints, the best and the last parameters."""

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.files import disk_errors, sync, write
from seqjax.runs import checkpoint, folder
from seqjax.runs.binding import binding
from seqjax.runs.interrupt import leave, noticed
from seqjax.runs.manifest import AFTER_TRAINING, add_files, read_manifest
from seqjax.runs.params_file import write_params
from seqjax.runs.rows import append_row, last_hash
from seqjax.runs.run import COLUMNS, NO_SAMPLES, Run
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.runs.tracking.tracker import Tracker
from seqjax.terminal.stream import line
from seqjax.training.epoch import TrainState
from seqjax.training.evaluating import has_perplexity, perplexity
from seqjax.training.fit import Fit
from seqjax.training.loop import Diverged, Outcome, Progress, stepping
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
    runs: Sequence[Run],
    outcomes: Iterable[Sequence[Outcome]],
    fit: Fit,
    checkpoint_seconds: float,
    show: Callable[[dict[str, Any]], None] = lambda row: None,
    show_part: Callable[[Progress], None] = lambda progress: None,
    callback: Callable[[Run], Any] | None = None,
    tracker: Tracker | None = None,
) -> None:
    """Trains runs until they end or are interrupted. If a single run diverges, raises `Diverged`.

    If several processes train a run, its path is None in all but the first, which alone writes files. Whatever decides
    on the next collective operation is exchanged: signals, the time of a checkpoint, the row of an epoch.

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
    recorders = [Recorder(run, fit, checkpoint_seconds, callback, tracker) for run in runs]
    in_folders = from_first(all(run.path is not None for run in runs))
    where = from_first(f"{runs[0].path}" if len(runs) == 1 else f"the folders of {len(runs)} runs")
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
            exit_code = max(exchange(interrupted() or 0))
            if exit_code and not all(run.finished or run.diverged for run in runs):
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


def _finish(recorders):
    for recorder in recorders:
        recorder.finish()


class Recorder:
    """Records a run during training: its rows, its parameters and, if it has a folder, its checkpoints."""

    def __init__(
        self,
        run: Run,
        fit: Fit,
        checkpoint_seconds: float,
        callback: Callable[[Run], Any] | None = None,
        tracker: Tracker | None = None,
    ):
        self.run, self.fit, self.checkpoint_seconds, self.callback = run, fit, checkpoint_seconds, callback
        self.mirror = SafeMirror(tracker, run.path, len(run.metrics))
        self.fault: Diverged | None = None
        self.saved = time.monotonic()
        self.bound = None if run.path is None else binding(run.path)
        self.row_hash = "" if run.path is None else last_hash(run.path)
        self.last: tuple[TrainState, Progress] | None = None

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
            self.fault = self._keep_last_good(outcome)
            return False
        self.last = state, progress = outcome
        self._check_lock()
        if progress.done:
            # A copy: the next chunk reuses the buffers of the state.
            run.params = jax.tree.map(jnp.copy, jax.device_put(whole(state.params), jax.local_devices()[0]))
            run.metrics.append(from_first(_with_heldout(run, self.fit.row(state, progress))))
            if run.path is not None:
                self.row_hash = append_row(run.path, run.metrics[-1], self.row_hash)
            self.mirror.update(run.metrics)
            if run.experiment.keep == "best" and run.best_epoch == run.metrics[-1]["epoch"]:
                self._keep_best()
            # Before the checkpoint: a run that goes on after it would not call it for this epoch again.
            self._call_back()
        if from_first(time.monotonic() - self.saved >= self.checkpoint_seconds) and not run.finished:
            self.save()
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
            if run.path is not None:
                folder.write_stopped(run.path, run.stopped_at)
                add_files(run.path, folder.STOPPED)

    def save(self) -> None:
        """Writes a checkpoint, unless the run has no folder or has diverged. All processes call it."""
        if self.last is None or self.run.diverged:
            return
        state, progress = whole(self.last[0]), self.last[1]
        if self.run.path is None or self.bound is None:
            return
        self._check_lock()
        if self.fit.has_curve:  # a count-based model has no state to go on from
            checkpoint.save(self.run.path, state, progress, self.bound)
        self.saved = time.monotonic()

    def _keep_best(self) -> None:
        """Keeps the parameters of the epoch that has just ended."""
        run = self.run
        if run.path is None or self.bound is None:
            run.best_in_memory = run.params
        else:
            with disk_errors(run.path):
                sync(run.path / folder.METRICS)  # they rely on the row of their epoch
            write_params(run.path, run.params, self.bound, folder.BEST, run.best_epoch)

    def _keep_last_good(self, fault: Diverged) -> Diverged:
        """Saves the run as it was before the update that diverged, and returns the error with this run.

        The parameters are written last, since a folder with parameters counts as ended: without them the run resumes
        from its checkpoint, and diverges again.
        """
        run = self.run
        run.params, run.diverged = fault.state.params, True
        if run.path is None or self.bound is None:
            return Diverged(str(fault), fault.state, run)
        self._check_lock()
        write(run.path / folder.DIVERGED, f"{fault}\n")
        write_params(run.path, run.params, self.bound)
        add_files(run.path, *AFTER_TRAINING)
        return Diverged(f"{fault}\nThe parameters before it are in {run.path / folder.PARAMS}", fault.state, run)

    def finish(self) -> None:
        """Writes the results of training, after `save` has written its last state, with which more epochs can follow.

        A folder with parameters counts as finished. So what cannot be made from them is written before them, all other
        files after them, and the manifest of all results last.
        """
        if self.run.path is None or self.bound is None or self.run.diverged:
            return
        self._check_lock()
        with disk_errors(self.run.path):
            sync(self.run.path / folder.METRICS)
        write_params(self.run.path, self.run.params, self.bound)
        _write_views(self.run)
        add_files(self.run.path, *AFTER_TRAINING)
        checkpoint.prune(self.run.path)

    def _check_lock(self) -> None:
        """Raises an `Error` if another process may write to the folder."""
        if self.run.path is not None:
            folder.check_lock(self.run.path)


def complete(run: Run) -> None:
    """Writes the files that an ended run lacks after a kill, and removes all checkpoints but the last one.

    A run that diverged has no samples and no learning curve, and keeps its checkpoints.
    """
    assert run.path is not None
    if folder.PARAMS in read_manifest(run.path).files and (run.diverged or checkpoint.is_pruned(run.path)):
        return
    with folder.lock(run.path):
        folder.remove_parts(run.path)
        if not run.diverged:
            _write_views(run)
        add_files(run.path, *AFTER_TRAINING)
        if not run.diverged:
            checkpoint.prune(run.path)


def _write_views(run):
    """Writes samples and learning curve. If no samples can be made, their file holds the reason."""
    if run.samples:
        if NO_SAMPLES in run.samples:
            line("warning", f"{NO_SAMPLES}: {run.samples[NO_SAMPLES]}; the parameters are saved")
        text = "\n\n".join(f"--- {how} ---\n{text}" for how, text in run.samples.items())
        write(run.path / folder.SAMPLES, (text + "\n").encode("utf-8", "backslashreplace"))
    if run.experiment.fit().has_curve:
        image = io.BytesIO()
        run.plot().savefig(image, dpi=150, format="png")
        write(run.path / folder.HISTORY, image.getvalue())


def _with_heldout(run, row):
    """The row of an epoch with the held-out loss beside the training loss."""
    due = row["epoch"] % run.experiment.evaluate_every == 0 or row["epoch"] == run.experiment.epochs
    names = list(map(name_of, run.experiment.metrics))
    # The loss of the training part is the mean during the epoch. Its metrics need another pass through the data.
    parts = ("train", "heldout") if names else ("heldout",)
    found = {part: run.evaluate_stream(run.prepared.streams[part]) for part in parts} if due else {}
    row = row | {"heldout_loss": found["heldout"]["loss"] if due else math.nan}
    if has_perplexity(run.problem):
        row |= {f"{part}_perplexity": perplexity(row[f"{part}_loss"]) for part in ("train", "heldout")}
    row = {name: row[name] for name in (*COLUMNS, *row) if name in row}
    return row | {f"{part}_{name}": found[part][name] if due else math.nan for name in names for part in parts}

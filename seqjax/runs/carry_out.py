"""Carries a run out: takes it up from its folder, and opens it if it has ended, or else trains it to its end."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.runs.agreement import check_equal
from seqjax.runs.job import Job
from seqjax.runs.listen import Listener, Training, chunks_of_one, diverged, listen
from seqjax.runs.progress import Display
from seqjax.runs.refusals import refuse_changed, refuse_environment, refuse_more_epochs
from seqjax.runs.saved import Saved, restore
from seqjax.runs.saving import Saving, locked_folder
from seqjax.runs.settings import CHECKPOINT_SECONDS
from seqjax.runs.state import RunState
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.runs.tracking.tracker import Tracker
from seqjax.terminal.stream import line
from seqjax.training.loop import Diverged
from seqjax.training.processes import exchange, failing_together, from_first, is_first


class Options(NamedTuple):
    """The options of `Experiment.run` that do not change its result; see there."""

    progress: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    callback: Callable[[Any], Any] | None = None
    tracker: Tracker | None = None


def take_up(run: RunState, job: Job, saved: Saved) -> None:
    """Restores a run from its folder, unless the job differs from that of the run."""
    if is_first():
        refuse_changed(saved, job)
    restore(run, saved)
    if is_first() and run.experiment.epochs > saved.epochs:
        refuse_more_epochs(saved, job)


def carry_out(run: RunState, path: Path | None, job: Job, saved: Saved | None, options: Options) -> Diverged | None:
    """Opens a run that has ended, or trains it to its end. Several processes may call it together.

    Args:
        run: the run, as far as it was trained before.
        path: its folder, in the first process; None: it is in memory.
        job: its job.
        saved: what its folder holds; None: it is new.
        options: the options of `Experiment.run`.

    Returns:
        The error of a run that has diverged; None: it is finished.
    """
    # Decided by one process: the number of epochs may differ, which `check_equal` finds if the run continues. A run
    # that stopped early and is asked for more is not trained either, but its config and its results are written again.
    if saved is not None and from_first(bool(saved.manifest.ended) and run.experiment.epochs == saved.epochs):
        return _open_again(run, path, saved, options)
    with failing_together():
        if saved is not None and is_first():
            refuse_environment(saved, job)
        chunks = iter(()) if run.finished else job.train(saved.checkpoint if saved else None)
    check_equal(job)
    with contextlib.ExitStack() as lock:
        with failing_together():
            if path is not None:
                lock.enter_context(locked_folder(path, job, saved))
                run.environment = saved.environment if saved else job.environment
        with contextlib.ExitStack() as stack:
            listeners: list[Listener] = []
            if path is not None:
                listeners.append(Saving(run, path))
            if path is not None and options.tracker is not None:
                listeners.append(stack.enter_context(SafeMirror(run, options.tracker, path)))
            listeners.append(stack.enter_context(Display(run, job, options.progress)))
            training = Training(run, job.fit, listeners, options.callback)
            listen(chunks_of_one(chunks), [training], options.checkpoint_seconds)
        exchange(None)  # no process leaves before the tracker of the first one has ended
    return training.fault


def _open_again(run: RunState, path: Path | None, saved: Saved, options: Options) -> Diverged | None:
    """Opens a run that has ended, which is not trained again: its tracker gets the rows that it lacks.

    Returns:
        The error of a run that has diverged, with the same message as then.
    """
    if options.tracker is not None and path is not None:
        with SafeMirror(run, options.tracker, path) as mirror:
            mirror.epoch()
    if run.diverged:
        return diverged(run, saved.manifest.note)
    if options.progress:
        line("opened", f"{path}: it is finished, and was not trained again")
    return None

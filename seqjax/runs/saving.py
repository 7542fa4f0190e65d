"""Writes a run into its folder: its first files, rows and checkpoints when `listen.py` says so, and its results."""

import contextlib
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from seqjax.array_files.arrays import by_name, save_arrays
from seqjax.extras import why_no_figure
from seqjax.runs.experiment import config_bytes
from seqjax.runs.files import checkpoint, folder, store
from seqjax.runs.files.data import encode_data
from seqjax.runs.files.manifest import Manifest
from seqjax.runs.files.rows import Counted, append_row, encode_rows
from seqjax.runs.job import Job
from seqjax.runs.listen import Listener
from seqjax.runs.plugin_files import local_plugins
from seqjax.runs.saved import Saved
from seqjax.runs.state import RunState
from seqjax.runs.trained import NO_SAMPLES
from seqjax.terminal.stream import line
from seqjax.training.epoch import TrainState
from seqjax.training.loop import Diverged
from seqjax.training.progress import Progress


@contextlib.contextmanager
def locked_folder(path: Path, job: Job, saved: Saved | None) -> Iterator[None]:
    """Locks the folder of a run, and makes it, or prepares it to continue.

    Args:
        path: the folder.
        job: the job.
        saved: what it holds, read before it was locked; None: there is no run.

    Raises:
        Error: another process has locked it, or has changed it in between (exit code 5); no config can hold the
            experiment.
    """
    # Made before the folder is, for their errors.
    config = config_bytes(job.experiment)
    first = first_files(job, config) if saved is None else {}
    with folder.lock(path):
        store.check_unchanged(path, saved.manifest if saved else None)
        if saved is None:
            store.begin(path, first)
        else:
            store.go_on(path, saved.manifest, config, saved.rows)
        yield


def first_files(job: Job, config: bytes) -> dict[str, bytes]:
    """The files that a run has before training, by name."""
    return {
        folder.ENVIRONMENT: job.environment.to_json(),
        folder.CODEC: job.codec_text.encode(),
        **local_plugins(job.experiment),
        **{folder.DATA[name]: encode_data(data) for name, data in job.in_memory.items()},
        folder.CONFIG: config,
    }


class Saving(Listener):
    """Writes the rows, the checkpoints and the results of a run into its folder, which is locked."""

    def __init__(self, run: RunState, path: Path):
        self.run, self.path = run, path
        self.lines = hashlib.sha256(encode_rows(run.metrics))

    def epoch(self) -> None:
        self.lines.update(append_row(self.path, self.run.metrics[-1]))

    def save(self, state: TrainState, progress: Progress) -> None:
        rows = Counted(len(self.run.metrics), self.lines.hexdigest())
        data = checkpoint.encode(state, progress, rows, self.run.kept_best)
        store.save_checkpoint(self.path, int(state.update), data, self.run.stopped_at)

    def end(self, fault: Diverged | None) -> None:
        how = "finished" if fault is None else "diverged"
        ended = Manifest({}, how, str(fault or ""), self.run.stopped_at)
        store.end(self.path, result_files(self.run), ended)


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
    if not run.experiment.fit().has_curve:
        return files
    if why := why_no_figure():
        line("note", why)
        return files
    # Imported here: matplotlib would delay the start of a command.
    from seqjax.report import plot

    image = io.BytesIO()
    plot.history(run.metrics, title=plot.title_of([run.experiment])).savefig(image, format="png")
    files[folder.HISTORY] = image.getvalue()
    return files

"""`Experiment`, which is run, and `Run`, an experiment that was run."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import optax

from seqjax.array_files import saved_file
from seqjax.columns import PARTS
from seqjax.data.preparing import Prepared
from seqjax.errors import Error, nearest
from seqjax.files import path_of
from seqjax.gradients.contract.problem import Params
from seqjax.models.model import Model
from seqjax.plugin.author import mistakes_of
from seqjax.plugin.config import describe, name_fault
from seqjax.report.shown import Shown
from seqjax.report.table import Table
from seqjax.runs.agreement import read_together
from seqjax.runs.carry_out import Options, carry_out, take_up
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.files import folder
from seqjax.runs.files.codec import decode_codec
from seqjax.runs.files.data import with_data
from seqjax.runs.fingerprint import fingerprints
from seqjax.runs.job import Job, prepare
from seqjax.runs.objects import check_given, missing_of, with_objects
from seqjax.runs.plugin_files import check_loaded
from seqjax.runs.refusals import refuse_data, refuse_objects, refuse_other
from seqjax.runs.requirements import Requirements, requirements_of
from seqjax.runs.saved import Saved, read_saved, restore
from seqjax.runs.settings import CHECKPOINT_SECONDS, KINDS, resolve
from seqjax.runs.state import RunState
from seqjax.runs.tracking.tracker import Tracker
from seqjax.terminal.live import shows_progress
from seqjax.training.first_call import first_call
from seqjax.training.join import ending_together
from seqjax.training.processes import failing_together, is_first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(ExperimentFields):
    """The dataset, the model and the training of a run. Options that do not change the result are arguments of `run`.

    The folder of a run holds plugins, numbers and texts. Of a loss, a metric, an optax transformation or a model of
    another library it holds the name and a fingerprint: the same script resumes the run, and a changed object is found.

    >>> import seqjax as sj
    >>> from seqjax.models import RNN
    >>> from seqjax.optimizers import Adam
    >>> from seqjax.samplers import Sequential
    >>> experiment = sj.Experiment(
    ...     dataset=sj.Text("abc" * 100),
    ...     model=RNN(hidden=8),
    ...     sampler=Sequential(batch_size=4, num_steps=5),
    ...     optimizer=Adam(learning_rate=0.1),
    ...     epochs=3,
    ... )
    >>> run = experiment.run()
    >>> run.generate("ab", 7)
    'abcabcabc'

    Raises:
        Error: values of the wrong type or out of range, all at once.
    """

    def run(
        self,
        path: str | Path | None = None,
        *,
        devices: int | None = None,
        progress: bool | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        params: Params | None = None,
        callback: Callable[["Run"], Any] | None = None,
        tracker: Tracker | None = None,
    ) -> "Run":
        """Trains, and returns the `Run`. Resumes an interrupted run of the same experiment, and opens a finished one.

        With a larger number of epochs, a finished run in the folder continues; the result is bit-identical to a run
        given that number from the start. With a folder, Ctrl-C saves the state and raises `KeyboardInterrupt`;
        SIGTERM, SIGHUP and SIGUSR1 save it and raise `SystemExit`. The program ends with exit code 130, 143, 129 or
        138. Before the first update is computed, as while JAX compiles, there is nothing to save: SIGUSR1 waits, and
        other signals behave as usual.

        After `jax.distributed.initialize()`, all processes call it together. Process 0 alone reads and writes the
        folder; in the others the run is in memory, and its `path` is None.

        Args:
            path: the folder of the run; None: the run stays in memory, and nothing is written.
            devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
            progress: whether to show the progress; None: on a terminal and in a notebook.
            checkpoint_seconds: least time from one checkpoint to the next, in seconds.
            params: the initial parameters, such as those that `from_flax` returns with a model. They are copied.
            callback: called with the run after each epoch, when its row is in `run.metrics`. Training ends if it
                returns True. A resumed run calls it again for the epochs after its last checkpoint.
            tracker: mirrors the folder of the run, for a viewer such as TensorBoard. If it raises an exception, a
                warning is printed, and training goes on without it.

        Raises:
            Error: the folder holds another experiment; it is in use (exit code 5); training diverges (3); a file is
                damaged, or the run was begun in another environment (4); another process has ended (7).
        """
        check_options(path, checkpoint_seconds, callback, tracker)
        options = Options(shows_progress(progress), checkpoint_seconds, callback, tracker)
        return run_in(self, None if path is None else path_of("path", path), options, devices, params)

    def requirements(self, target: str) -> Requirements:
        """What training requires of devices that need not be here: memory, and kernels of an update.

        The program is compiled for them, which takes 5 to 15 s, and read; nothing is executed.

        Args:
            target: `"h100"`, one card; `"v5e"`, one chip; `"v5e:2x4"`, a slice of eight chips, over which the rows of
                a batch are spread.

        Raises:
            Error: there is no such target; its compiler is not installed, which is a part of `seqjax[cuda]` or
                `seqjax[tpu]`; its devices do not divide the batch; the model is count-based.
        """
        setup, job = self.setup(1), job_of(self, 1)
        return requirements_of(first_call(job.problem, job.data.streams["train"], setup, here=False), target)


class Run(Shown, RunState):
    """An experiment with its parameters and metrics.

    >>> import tempfile
    >>> import seqjax as sj
    >>> from seqjax.models import NGram
    >>> experiment = sj.Experiment(dataset=sj.Text("abc" * 100), model=NGram(order=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     finished = experiment.run(folder).finished
    ...     run = sj.Run.open(folder)
    >>> finished, run.generate("ab", 7)
    (True, 'abcabcabc')
    >>> round(run.evaluate(sj.Text("abcabc"))["perplexity"], 1)
    1.0
    """

    @classmethod
    def open(
        cls,
        path: str | Path,
        which: Literal["last", "best"] = "last",
        *,
        model: Model | None = None,
        optimizer: optax.GradientTransformation | None = None,
        loss: Callable[..., Any] | None = None,
        metrics: Sequence[Any] | None = None,
    ) -> Self:
        """The run kept in a folder.

        The folder does not hold objects of Python, such as the model that `from_flax` returns. What needs them raises
        an `Error` unless they are given here: `generate` and `predict` need the model, `evaluate` the loss and the
        metrics too, and training all of them.

        Args:
            path: the folder.
            which: the parameters: those of the last epoch, or with `"best"` those of the epoch with the lowest held-out
                loss, if the experiment has keep = "best".
            model: the model, if the run was made with one of another library.
            optimizer: the optax transformation, if the run was made with one.
            loss: the loss, if the run was made with one.
            metrics: all metrics, as the experiment had them, if some of them are functions.

        Raises:
            Error: the folder holds no run, or one without parameters; a local plugin must be loaded first; an object is
                not the one with which the run was made; a file is damaged (exit code 4).
        """
        given = {"model": model, "optimizer": optimizer, "loss": loss, "metrics": metrics}
        objects = {name: value for name, value in given.items() if value is not None}
        if which not in ("last", "best"):
            raise Error(f"which = {which!r}: choose 'last' or 'best'")
        saved = read_saved(path_of("path", path))
        run = cls._of(saved, objects)
        if not (saved.manifest.ended or (saved.checkpoint and which == "last")):
            lack = "it has no parameters yet" if which == "last" else "its best epoch is not known yet"
            raise Error(f"{run.path} is unfinished: {lack}; the command that began it resumes it")
        restore(run, saved)
        if which == "best":
            run.params, run.which = run.best_params, "best"
        return run

    @classmethod
    def _of(cls, saved: Saved, objects: dict[str, Any]) -> Self:
        """The run of a folder before its parameters are restored, with the objects of Python that are given."""
        check_loaded(saved.path, saved.environment.plugins)
        table, given = with_objects(with_data(saved.config, saved.path), saved.path, objects)
        config = saved.path / folder.CONFIG
        named = {kind: table[kind] for kind in KINDS if kind in table}
        if unknown := [fault for kind, each in named.items() if (fault := name_fault(kind, each))]:
            raise Error(f"{config} names plugins that are not installed:", problems=unknown)
        with saved_file.reading(config):
            experiment = Experiment(**resolve(table) | given)
        with saved_file.reading(saved.path / folder.CODEC):
            codec, spec = decode_codec(saved.codec_text, experiment.tokenizer)
        run = cls(experiment, codec, spec, path=saved.path)
        own = {name: value for name, value in experiment.objects.items() if not missing_of(value)}
        if "optimizer" in own and missing_of(experiment.model):
            raise Error(
                f"{saved.path}: give its model too: the optimizer is compared with that of the run on its parameters"
            )
        if own:
            then = {name: each for name, each in saved.environment.objects.items() if name in own}
            params = experiment.fit().params_like(run.problem)
            refuse_objects(saved.path, then, fingerprints(own, run.problem, params))
        return run

    @functools.cached_property
    def prepared(self) -> Prepared:
        """The prepared dataset: source, codec and streams.

        Raises:
            Error: the data cannot be read; exit code 4: they are not those that the run was made with.
        """
        try:
            prepared = self.experiment.prepare(self.codec)
        except Error as fault:
            if self.path is None or fault.exit_code != 2:
                raise
            raise Error(
                f"{fault}\nThe data are named in {self.path / folder.CONFIG}. If a file was moved, put it back, or a "
                "link to it"
            ) from fault
        if self.path is not None:
            now = {name: data.sha256 for name, data in prepared.sources.items()}
            refuse_data(self.path, self.data_hashes, now)
        return prepared

    @property
    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the data that the run was made with: of the `dataset`, and of a `heldout` of its own."""
        if self.environment is None:
            return {name: data.sha256 for name, data in self.prepared.sources.items()}
        return self.environment.data_sha256

    def metric(self, name: str) -> np.ndarray:
        """One column of the metrics, float64[epochs].

        Raises:
            Error: there is no such column, or no epoch is complete.
        """
        if not self.metrics:
            raise Error("this run has no metrics: it did not finish its first epoch")
        check_metric(name, self.metrics[0])
        return np.array([row[name] for row in self.metrics], np.float64)

    def plot(self, title: str | None = None, *, figsize: tuple[float, float] | None = None) -> Any:
        """A matplotlib figure of training and held-out perplexity (or loss) by epoch; see `seqjax.plot.history`.

        Args:
            title: the title of the figure; None: dataset, model, gradient strategy and optimizer.
            figsize: the width and the height in inches.
        """
        from seqjax.report import plot

        title = plot.title_of([self.experiment]) if title is None else title
        return plot.history(self.metrics, title, figsize=figsize)

    def _parts(self) -> list[str | Table]:
        return [self._headline(), *([self._losses()] if self.metrics else [])]

    def _headline(self) -> str:
        """What was run, how far it went, and where it is kept."""
        e = self.experiment
        words = [*map(describe, filter(None, (e.model, e.gradient))), f"{len(self.metrics)} of {e.epochs} epochs"]
        words += ["diverged"] if self.diverged else []
        words += [self.ending] if self.ending else []
        words += [f"parameters of epoch {self.best_epoch}"] if self.which == "best" else []
        return " · ".join([*words, *([] if self.path is None else [str(self.path)])])

    def _losses(self) -> Table:
        """The metrics of both parts after the last and the best epoch."""
        last, best = len(self.metrics), self.best_epoch
        epochs = {f"last epoch, {last}": last} | ({} if best in (None, last) else {f"best epoch, {best}": best})
        rows = [
            (f"{label} {name.removeprefix(f'{part}_')}", *(self.metrics[epoch - 1][name] for epoch in epochs.values()))
            for part, label in PARTS.items()
            for name in self.metrics[0]
            if name.startswith(f"{part}_")
        ]
        return Table(("", *epochs), rows)

    def __repr__(self) -> str:
        last = f", heldout_loss={self.metrics[-1]['heldout_loss']:.4g}" if self.metrics else ""
        path = "" if self.path is None else f", path={str(self.path)!r}"
        path += f", which='best' of epoch {self.best_epoch}" if self.which == "best" else ""
        return f"Run({len(self.metrics)} of {self.experiment.epochs} epochs{last}{path})"


def run_in(
    experiment: ExperimentFields,
    path: Path | None,
    options: Options,
    devices: int | None = None,
    params: Params | None = None,
) -> Run:
    """The run of an experiment in a folder, as `Experiment.run` makes it.

    Several processes may call it together. The first one reads and writes the folder, and the others have the same run
    in memory.
    """
    check_given(experiment.objects)
    with ending_together(path):
        if not is_first():
            path, options = None, options._replace(progress=False, tracker=None)
        saved = read_together(path)
        with failing_together():
            if saved is not None and is_first():
                refuse_other(saved, experiment)
            job = job_of(experiment, devices, params, saved)
            run = run_of(job, path)
            if saved is not None:
                take_up(run, job, saved)
        fault = carry_out(run, path, job, saved, options)
    if fault is not None:
        raise fault
    return run


def job_of(
    experiment: ExperimentFields, devices: int | None = None, params: Params | None = None, saved: Saved | None = None
) -> Job:
    """The job of an experiment, as `prepare` makes it, with the run whose parameters it starts from."""
    source = None if experiment.init_from is None else Run.open(experiment.init_from, experiment.init_which)
    with mistakes_of(*experiment.plugins):
        return prepare(experiment, source, devices, params, saved)


def run_of(job: Job, path: Path | None = None) -> Run:
    """The run of a job before the first update; `path`: its folder, or None in memory."""
    run = Run(job.experiment, job.data.codec, job.data.spec, path=path)
    run.prepared = job.data
    return run


def check_options(
    path: str | Path | None, checkpoint_seconds: float, callback: object = None, tracker: object = None
) -> None:
    """Raises an `Error` unless the options of `Experiment.run` are of the right types, and fit a run with this path."""
    is_number = isinstance(checkpoint_seconds, int | float | np.number) and not isinstance(checkpoint_seconds, bool)
    if not (is_number and checkpoint_seconds >= 0):  # NaN is not; ∞ is
        raise Error(f"checkpoint_seconds = {checkpoint_seconds!r:.80} must be a number, at least 0")
    if tracker is not None and not isinstance(tracker, Tracker):
        raise Error(f"tracker = {tracker!r:.60} is no tracker; pass one, such as create('tracker', name)")
    if tracker is not None and path is None:
        raise Error("a tracker mirrors the folder of a run, and this one is in memory; give run a folder")
    if callback is not None and not callable(callback):
        raise Error(f"callback = {callback!r:.60} is no function; pass one that takes the run")


def check_metric(name: str, known: Iterable[str]) -> None:
    """Raises an `Error` if there is no column of this name."""
    if name not in list(known):  # `in` of a list also works for unhashable values
        raise Error(f"unknown metric {name!r}{nearest(name, known)}; there are {', '.join(known)}")

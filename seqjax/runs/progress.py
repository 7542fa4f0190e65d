"""Prints the progress of a run: a live line on a terminal or in a notebook, else a plain line every few seconds."""

import math
import threading
import time
from pathlib import Path
from typing import Any

import jax

from seqjax.array_files import saved_file
from seqjax.columns import printed
from seqjax.data.dataset import Data, Dataset
from seqjax.data.tokenizer import TextCodec, unknown_share
from seqjax.errors import counted, escape
from seqjax.models.check import is_recurrent
from seqjax.plugin.config import describe
from seqjax.runs.files import folder
from seqjax.runs.job import Job
from seqjax.runs.listen import Listener
from seqjax.runs.state import RunState
from seqjax.terminal.live import open_output
from seqjax.training.devices import num_cores
from seqjax.training.fit import Fit
from seqjax.training.loop import stepping
from seqjax.training.metrics import name_of
from seqjax.training.progress import Progress

EVERY = 5.0
"""Seconds from one plain line to the next."""
PART_EVERY = 30.0
"""Seconds from one plain line to the next within an epoch."""
SLOW = 1.0
"""Seconds of compiling after which a plain line says what is compiled; a live line says it at once."""


class Display(Listener):
    """A context manager that prints the progress of a run; with `show` False it prints nothing."""

    def __init__(self, run: RunState, job: Job, show: bool):
        self.run, self.job, self.show = run, job, show
        self.compiled = f"the training of {describe(run.experiment.model)}, once for these shapes"
        self.console, self.live = open_output(f"compiling {self.compiled}", show)
        self.slow = threading.Timer(SLOW, self._say_compiling)
        self.slow.daemon = True
        self.began = time.monotonic()
        self.printed = self.shown = -math.inf
        self.last_epoch = 0
        self.epochs_before = len(run.metrics)

    def __enter__(self) -> "Display":
        if self.show:
            self._print("device", device_line(self.job.fit))
            self._print("dataset", dataset_line(self.job))
            e = self.run.experiment
            if e.init_from:
                self._print("start", start_line(self.job))
            if e.gradient and e.gradient.claim != "exact":
                self._print_note_on_cuts()
            if self.console.is_terminal:
                self.live.start(refresh=True)
            elif self.job.fit.has_curve:
                stepping.clear()
                self.slow.start()
        return self

    def _print_note_on_cuts(self) -> None:
        """Says that cutting the gradient changes nothing, if the state does not depend on the parameters."""
        model, spec = self.run.experiment.model, self.run.spec
        if not is_recurrent(model, spec, self.job.params_like):
            text = "holds inputs only: no gradient goes through time, and cutting it changes nothing"
            self._print("note", f"the state of {describe(model)} {text}")

    def __exit__(self, *_: object) -> None:
        self.slow.cancel()
        self.live.stop()

    def _say_compiling(self) -> None:
        if not stepping.is_set():
            self._print("compile", self.compiled)

    def part(self, progress: Progress) -> None:
        if self.show and progress.done:
            self._epoch(self.run.metrics[-1])
        elif self.show:
            self._part(progress)

    def _epoch(self, row: dict[str, Any]) -> None:
        """Shows the row of an epoch. On a terminal only the first and the last row stay."""
        self.began += row["compile_seconds"]  # compiling says nothing about the time left
        if not self.job.fit.has_curve:
            self._print("model", f"{self.job.fit.model_line(self.job.problem)} in {row['seconds']:.1f} s")
            texts = printed(row, self._metrics()).items()
            known = [f"{title.strip()} {text.strip()}" for title, text in texts if text.strip() != "nan"]
            self._print("result", " · ".join(known))
            return
        first, last = self.printed == -math.inf, self.run.finished
        if first:
            compiled = f"compiled in {row['compile_seconds']:.1f} s"
            self._print("model", f"{self.job.fit.model_line(self.job.problem)} · {compiled}")
            self.console.print("  ".join([*printed(row, self._metrics()), "  left"]))
        late = time.monotonic() - self.printed >= EVERY
        if first or last or (late and not self.console.is_terminal):
            if not first and row["epoch"] > self.last_epoch + 1:
                self.console.print(self._skipped(row["epoch"]))
            self.console.print(self._format(row))
            self.last_epoch = row["epoch"]
            self.printed = time.monotonic()
            if not last:  # it replaces the line about compiling
                self.live.update(f"epoch {row['epoch'] + 1}", refresh=self.live.is_started)
        else:
            self.live.update(self._format(row), refresh=self.live.is_started)

    def _part(self, progress: Progress) -> None:
        """Shows how far an epoch is, if it takes long: on a terminal as the live line, else as a line now and then."""
        now, every = time.monotonic(), EVERY if self.console.is_terminal else PART_EVERY
        if not progress.updates or now - max(self.shown, self.began) < every:
            return
        self.shown = now
        loss, tokens = progress.updates["loss"], progress.updates["tokens"]
        share = tokens.sum() / max(1, len(self.job.data.streams["train"].targets))
        text = (
            f"epoch {progress.epoch + 1}: {share:.0%} · {len(loss):,} updates · loss {loss[-100:].mean():.3f} · "
            f"{tokens.sum() / progress.epoch_seconds:,.0f} tokens/s"
        )
        if self.console.is_terminal:
            self.live.update(text, refresh=self.live.is_started)
        else:
            self._print("part", text)

    def _print(self, name: str, text: str) -> None:
        self.console.print(f"{name:8} {escape(text)}")

    def _format(self, row: dict[str, Any]) -> str:
        here = row["epoch"] - self.epochs_before
        left = (time.monotonic() - self.began) / here * (self.run.experiment.epochs - row["epoch"])
        return "  ".join([*printed(row, self._metrics()).values(), f"{left // 60:3.0f}:{left % 60:02.0f}"])

    def _skipped(self, epoch: int) -> str:
        """The line in place of the rows between the last one and that of an epoch."""
        first, last = self.last_epoch + 1, epoch - 1
        where = "run.metrics" if self.run.path is None else self.run.path / folder.METRICS
        are = f"epoch {first} is" if first == last else f"epochs {first} to {last} are"
        return f"    …  {are} in {escape(str(where))}"

    def _metrics(self) -> tuple[str, ...]:
        """The names of the experiment's metrics, which are shown for the held-out part."""
        return tuple(map(name_of, self.run.experiment.metrics))


def device_line(fit: Fit) -> str:
    """The device, the processes if there are several, how a batch is spread, the version of jax, and the precision."""
    devices = jax.devices()
    cores = counted(num_cores(), "core") if jax.default_backend() == "cpu" else devices[0].device_kind
    processes = f"{jax.process_count()} processes" if jax.process_count() > 1 else ""
    dtype = fit.precision if fit.precision != "float32" else str(jax.numpy.zeros(()).dtype)
    words = [f"{jax.default_backend()}, {cores}", processes, fit.device_share(len(devices)), f"jax {jax.__version__}"]
    return " · ".join(filter(None, [*words, dtype]))


def start_line(job: Job) -> str:
    """The run whose parameters training starts from, whether its tokenizer is used, and what share is unknown to it."""
    e, own = job.experiment, job.data.codec
    assert e.init_from is not None
    codec = saved_file.read_text(Path(e.init_from) / folder.CODEC, may_be_long=True)
    words = [f"{e.init_from}, {e.init_which} epoch"]
    if own and codec == job.codec_text:
        words.append("with its vocabulary" if isinstance(own, TextCodec) else "with its scale")
        if share := unknown_share(own, job.data.streams["train"].inputs):
            words.append(f"{share:.2%} of the text is unknown to it (--init-anew tokenizer fits a new one)")
    return " · ".join(words)


def dataset_line(job: Job) -> str:
    """Name, size and parts of the dataset."""
    source, e, own = job.data.source, job.experiment, job.data.codec
    parts = [
        _source_name(job.data.sources["heldout"]) if isinstance(size, Dataset)
        else f"{size:.0%}" if isinstance(size, float) else f"{size:,}"
        for size in (e.train, e.heldout)
    ]  # fmt: skip
    codec = f" · {len(own)} tokens" if isinstance(own, TextCodec) else ""
    size = f"{_source_name(source)} · {len(source):,} {source.unit}{codec}"
    return f"{size} · train {parts[0]} / held out {parts[1]}"


def _source_name(data: Data) -> str:
    return data.source or type(data).__name__.lower()

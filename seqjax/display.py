"""What a person sees while a run trains: a live line on a terminal, else a plain line every few seconds."""

import math
import sys
import time
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text as Line

from seqjax import registry
from seqjax.check import is_recurrent
from seqjax.contracts import TextCodec
from seqjax.devices import make_mesh, num_cores
from seqjax.plugin import fields_of

EVERY = 5.0
"""Seconds from one plain line to the next."""


class Display:
    """Prints the progress of a run, as a context manager; `show` False prints nothing."""

    def __init__(self, run: Any, show: bool, devices: int | None = None):
        self.run, self.show, self.devices = run, show, devices
        self.console = Console(highlight=False, soft_wrap=True, quiet=not show)
        self.live = Live(Line("compiling"), console=self.console, auto_refresh=False, transient=True)
        self.began = time.monotonic()
        self.printed = -math.inf
        self.epochs_before = len(run.metrics)

    def __enter__(self) -> "Display":
        if self.show:
            self._print("device", device_line(self.run, self.devices))
            self._print("corpus", corpus_line(self.run))
            e = self.run.experiment
            if e.gradient and e.gradient.claim != "exact" and not is_recurrent(e.model, self.run.spec):
                self._print(
                    "note",
                    f"the state of {describe(e.model)} holds inputs only: no gradient goes through time, and where it "
                    "is cut makes no difference",
                )
            if self.console.is_terminal:
                self.live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def row(self, row: dict[str, Any]) -> None:
        """Shows the row of an epoch: the first and the last for good, those between as they come."""
        if not self.show:
            return
        self.began += row["compile_seconds"]  # which says nothing of the time left
        if self.run.experiment.model.is_counted:
            self._print("model", f"{model_line(self.run)} in {row['seconds']:.1f} s")
            name = "ppl" if "train_perplexity" in row else "MSE"
            self._print(name, "train {} · held out {}".format(*self._pair(row)))
            return
        first, last = self.printed == -math.inf, row["epoch"] == self.run.experiment.epochs
        if first:
            self._print("model", f"{model_line(self.run)} · compiled in {row['compile_seconds']:.1f} s")
            middle = "train ppl   held-out ppl" if "train_perplexity" in row else "train MSE   held-out MSE"
            self.console.print(f"epoch      loss   {middle}    |g|    tokens/s    left", markup=False)
        late = time.monotonic() - self.printed >= EVERY
        if first or last or (late and not self.console.is_terminal):
            self.console.print(self._format(row), markup=False)
            self.printed = time.monotonic()
        else:
            self.live.update(Line(self._format(row)), refresh=self.live.is_started)

    def _print(self, name, text):
        self.console.print(f"{name:8} {escape(text)}", markup=False)
        sys.stdout.flush()

    def _pair(self, row):
        """Of the training and the held-out part the perplexity, or the loss."""
        kind, form = ("perplexity", ".2f") if "train_perplexity" in row else ("loss", ".4g")
        return [format(row[f"{part}_{kind}"], form) for part in ("train", "heldout")]

    def _format(self, row):
        train, heldout = self._pair(row)
        here = row["epoch"] - self.epochs_before
        left = (time.monotonic() - self.began) / here * (self.run.experiment.epochs - row["epoch"])
        return (
            f"{row['epoch']:5}  {row['train_loss']:8.3f}  {train:>10}  {heldout:>13}  "
            f"{row['grad_norm']:5.2f}  {row['tokens_per_second']:10,.0f}  {left // 60:3.0f}:{left % 60:02.0f}"
        )


def device_line(run: Any, devices: int | None = None) -> str:
    """Device, how many of them share a batch, jax, precision."""
    counted, found = run.experiment.model.is_counted, len(jax.devices())
    cores = f", {num_cores()} cores" if jax.default_backend() == "cpu" else f", {jax.devices()[0].device_kind}"
    share = ""
    if found > 1 and not counted:
        batch = run.experiment.sampler.batch_size
        share = f" · batch of {batch} over {make_mesh(batch, devices).size} of {found} devices"
    return f"{jax.default_backend()}{cores}{share} · jax {jax.__version__} · {np.dtype(jax.numpy.zeros(()).dtype)}"


def corpus_line(run: Any) -> str:
    """Name, size and parts of the corpus."""
    source, e = run.data, run.experiment
    parts = [f"{size:.0%}" if isinstance(size, float) else f"{size:,}" for size in (e.train, e.heldout)]
    codec = f" · {len(run.codec)} tokens" if isinstance(run.codec, TextCodec) else ""
    size = f"{source.source or type(source).__name__.lower()} · {len(source):,} {source.unit}{codec}"
    return f"{size} · train {parts[0]} / held out {parts[1]}"


def model_line(run: Any) -> str:
    """Model, number of parameters, gradient strategy, optimizer."""
    if run.experiment.model.is_counted:
        return f"{describe(run.experiment.model)} · counted"
    params = jax.eval_shape(lambda: run.experiment.model.init(jax.random.key(0), run.spec))
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    e = run.experiment
    return f"{describe(e.model)} · {size:,} parameters · gradient {describe(e.gradient)} · {describe(e.optimizer)}"


def describe(plugin: Any) -> str:
    """A plugin in a few words: its name and the fields that are not at their defaults."""
    fields = [(field, getattr(plugin, name)) for name, field in fields_of(type(plugin)).items()]  # type: ignore[arg-type]
    changed = [f"{field.name}={value}" for field, value in fields if value != field.make_default()]
    return " ".join([registry.name_of(plugin), *changed])


def escape(text: str, keep: str = "") -> str:
    """The text with control characters written out, so that they do nothing to a terminal."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)

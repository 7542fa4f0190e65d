"""The kinds of run on which faults are tried: tiny ones, of commands and of Python."""

import contextlib
import functools
import importlib.metadata
import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from support.crash import TIMING
from support.shell import call

from faults.disk import Tree, read_tree
from seqjax import Error, Experiment, Series, Text, create
from seqjax.plugin import registry
from seqjax.report import plot
from seqjax.runs import environment
from seqjax.runs.files import checkpoint, folder
from seqjax.runs.files.manifest import content_of
from seqjax.training import feed, first_call, fit, initial

TEXT = "the cat sat on the mat and the dog sat on the log. " * 5

PLUGIN = """
from dataclasses import dataclass
import optax
from seqjax import Optimizer, register

@register("optimizer", "halves")
@dataclass(frozen=True)
class Halves(Optimizer):
    learning_rate: float = 0.5
    def build(self, num_updates):
        return optax.chain(optax.trace(0.5), optax.scale(-self.learning_rate))
"""


class Ended(NamedTuple):
    """How a command ended: its exit code, and the message of its error."""

    code: int
    message: str


class Kind(NamedTuple):
    """A kind of run.

    Args:
        name: its name.
        command: (folder with the data, folder of the run) -> how it ended. It begins a run, or resumes it.
        words: the words of the command, if it is one, in which DATA stands for the folder of the data.
        before: the same: makes what is in the folder before the command. None: there is no folder.
        code: the exit code of the command.
        source: whether it needs another run, in the folder `source` of the data.
    """

    name: str
    command: Callable[[Path, Path], Ended]
    words: tuple[str, ...] = ()
    before: Callable[[Path, Path], Ended] | None = None
    code: int = 0
    source: bool = False


def command(*words: str) -> Callable[[Path, Path], Ended]:
    """A command line."""

    def run(data, out):
        there = [word.replace("DATA", str(data)) for word in words]
        done = call(*there, "--checkpoint-seconds", "0", "--out", out)
        return Ended(done.returncode, done.stderr)

    return run


def of_words(name: str, *words: str, **fields: Any) -> Kind:
    """The kind of a command line."""
    return Kind(name, command(*words), words, **fields)


def in_python(make: Callable[[Path], Experiment], callback: Any = None) -> Callable[[Path, Path], Ended]:
    """An experiment that is run in Python."""

    def run(data, out):
        try:
            make(data).run(out, checkpoint_seconds=0, callback=callback)
        except Error as fault:
            return Ended(fault.exit_code, str(fault))
        return Ended(0, "")

    return run


OF_TEXT = (
    *("run", "--dataset", "text-file", "--dataset.path", "DATA/text.txt", "--train", "180", "--heldout", "60"),
    *("--sampler", "sequential", "--sampler.batch-size", "4", "--sampler.num-steps", "5", "--epochs", "2"),
)
RNN = (*OF_TEXT, "--model", "rnn", "--model.hidden", "3")
SERIES = (
    *("run", "--dataset", "noisy-sine", "--tokenizer", "standardize", "--model", "mlp", "--model.lags", "3"),
    *("--model.hidden", "4", "--sampler", "windows", "--sampler.batch-size", "4", "--sampler.num-steps", "6"),
    *("--train", "60", "--heldout", "20", "--epochs", "2"),
)
IN_MEMORY = {"train": 60, "heldout": 30, "sampler": create("sampler", "sequential", batch_size=2, num_steps=5)}


def of_series(data: Path) -> Experiment:
    """An experiment on data in memory."""
    values = np.stack([np.sin(np.arange(90) / 3), np.cos(np.arange(90) / 5)], 1)
    model, optimizer = create("model", "gru", hidden=3), create("optimizer", "adam")
    return Experiment(dataset=Series(values), model=model, optimizer=optimizer, epochs=2, **IN_MEMORY)


def _stopped(data):
    return Experiment(dataset=Text(TEXT), model=create("model", "rnn", hidden=2), epochs=5, **IN_MEMORY)


KINDS = [
    of_words("rnn", *RNN),
    of_words(
        *("lstm, dropout, truncated, adam", *OF_TEXT, "--model", "lstm", "--model.hidden", "3", "--model.dropout"),
        *("0.3", "--gradient", "truncated:steps=2", "--optimizer", "adam:schedule=cosine:warmup=0.2"),
    ),
    of_words("ngram", *OF_TEXT[:9], "--model", "ngram"),
    of_words("sweep of two", "sweep", *RNN[1:], "--seeds", "0,1", "--launcher", "none"),
    of_words("uoro", *RNN, "--gradient", "uoro"),
    of_words("pes", *RNN, "--gradient", "pes"),
    of_words("randomized", *RNN, "--gradient", "randomized:keep_prob=0.8", "--optimizer", "adam"),
    of_words("learned hazard", *RNN, "--gradient", "learned-hazard"),
    of_words("local plugin", *RNN, "--load", "DATA/halves.py", "--optimizer", "halves"),
    of_words("series", *SERIES),
    # The learning rate rises, until the squares of the parameters are too large for float32.
    of_words(
        *("diverges", *RNN, "--optimizer", "sgd:clip_norm=none:warmup=0.9", "--optimizer.learning-rate", "3e19"), code=3
    ),
    of_words(
        *("keep best, stop after", *RNN, "--epochs", "9", "--keep", "best", "--stop-after", "1"),
        *("--optimizer", "adam", "--optimizer.learning-rate", "0.5"),
    ),
    of_words("more epochs", *RNN, "--epochs", "3", before=command(*RNN)),
    of_words("init from", *RNN, "--init-from", "DATA/source", source=True),
    Kind("data in memory", in_python(of_series)),
    Kind("ended by a callback", in_python(_stopped, callback=lambda run: len(run.metrics) == 3)),
]
BY_NAME = {kind.name: kind for kind in KINDS}


class Figure:
    """Stands for the learning curve, which takes longer than the training here."""

    def __init__(self, metrics: list[dict[str, Any]], title: str):
        self.text = json.dumps([row["train_loss"] for row in metrics])

    def savefig(self, file, format):
        file.write(self.text.encode())


@contextlib.contextmanager
def tiny() -> Iterator[None]:
    """A context in which an epoch has several chunks, with a checkpoint after each.

    What takes longer than the training, and changes nothing in the folder of a run, is done once or not at all: syncs,
    figures, versions of packages, the checks that trace a model and an optimizer before training.
    """
    patches = [
        mock.patch.object(os, "fsync", bool),
        mock.patch.object(feed, "CHUNK_STEPS", 80),
        mock.patch.object(plot, "history", Figure),
        mock.patch.object(environment, "_git_commit", return_value=None),
        mock.patch.object(importlib.metadata, "version", functools.cache(importlib.metadata.version)),
        mock.patch.object(fit, "check_model"),
        mock.patch.object(initial, "check_update"),
        mock.patch.object(first_call, "check_bare_problem"),
        mock.patch.object(first_call, "numbers_of", _once(first_call.numbers_of, 2)),
        mock.patch.object(fit.GradientDescent, "params_like", _once(fit.GradientDescent.params_like, 2)),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def _once(function, count):
    """The function, which is called once for each text of its first arguments."""
    known = {}

    def call(*args):
        name = tuple(map(repr, args[:count]))
        if name not in known:
            known[name] = function(*args)
        return known[name]

    return call


def make_data(kind: Kind, data: Path) -> None:
    """Makes the folder of the data of a kind of run."""
    data.mkdir(parents=True)
    (data / "text.txt").write_text(TEXT)
    (data / "halves.py").write_text(PLUGIN)
    if kind.source:
        ended = carry_out(command(*RNN, "--seed", "7"), data, data / "source")
        assert ended.code == 0, ended.message


def carry_out(run: Callable[[Path, Path], Ended], data: Path, out: Path) -> Ended:
    """Runs a command as a process of its own would: without the local plugins that an earlier one has loaded."""
    before = set(registry._registered)
    try:
        return run(data, out)
    except Exception:
        return Ended(1, traceback.format_exc())
    finally:
        for name in set(registry._registered) - before:
            if registry._registered[name][0].distribution == registry.LOCAL:
                del registry._registered[name]


def results(path: Path) -> dict[str, Any]:
    """What has to be the same after a fault: the files of a run or a sweep, without times and what depends on them.

    A checkpoint that the manifest does not list, which a fault has kept from being deleted, is no part of a run.
    """
    tree = read_tree(path)
    return {name: _plain(tree, name, data) for name, data in tree.items() if _is_part(tree, name)}


def _is_part(tree, name):
    """Whether a file is none of the checkpoints that the manifest does not list."""
    where, last = os.path.split(name)
    manifest = tree.get(os.path.join(os.path.dirname(where), folder.MANIFEST))
    is_checkpoint = os.path.basename(where) == folder.CHECKPOINTS and manifest
    return not is_checkpoint or f"{folder.CHECKPOINTS}/{last}" in json.loads(manifest)["manifest"]["files"]


def _plain(tree: Tree, name: str, data: bytes | None) -> Any:
    """The content of a file without times."""
    where, last = os.path.split(name)
    if data is None or last == folder.LOCK:
        return None
    if last == folder.METRICS:
        rows = [json.loads(line) for line in data.splitlines()]
        return [{key: row[key] for key in row if key not in TIMING} for row in rows]
    if last == folder.MANIFEST:
        manifest = json.loads(data)["manifest"]
        # Metrics and checkpoints hold times, so that their contents are others. They have to be those of the files.
        of = {file: tree.get(os.path.join(where, file)) or b"" for file in manifest["files"]}
        contents = {file: content_of(data)._asdict() for file, data in of.items()}
        return [sorted(contents), contents == manifest["files"], {**manifest, "files": None}]
    if os.path.basename(where) == folder.CHECKPOINTS:
        saved = checkpoint.decode(data)
        progress = saved.progress._replace(compile_seconds=0.0, epoch_seconds=0.0, seconds=0.0)._asdict()
        arrays = {**saved.arrays, **saved.best, **(progress.pop("updates") or {})}
        plain = {key: (str(array.dtype), array.shape, array.tobytes()) for key, array in arrays.items()}
        return [plain, progress, saved.rows.number, len(saved.best)]
    return data


def difference(path: Path, whole: dict[str, Any]) -> str | None:
    """Which results in a folder are not those of a run without a fault."""
    found = results(path)
    names = [name for name in {**whole, **found} if found.get(name, ...) != whole.get(name, ...)]
    return f"other bits in {', '.join(names)}" if names else None

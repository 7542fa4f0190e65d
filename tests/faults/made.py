"""The runs whose files are changed: tiny ones of each form, made when the fuzzer starts."""

import contextlib
from pathlib import Path

import numpy as np

from faults.children import outcomes
from seqjax import Experiment, Series, create
from seqjax.cli import main

TEXT = "the cat sat on the mat and the dog sat on the log. " * 6
HALVES = """
from dataclasses import dataclass
import optax
from seqjax import Optimizer, register

@register("optimizer", "halves")
@dataclass(frozen=True)
class Halves(Optimizer):
    learning_rate: float = 0.5
    def build(self, num_updates):
        return optax.scale(-self.learning_rate)
"""
SMALL = ["--train", "200", "--heldout", "60", "--epochs", "2", "--sampler.batch-size", "2", "--sampler.num-steps", "5"]
OF_TEXT = ["--dataset", "text-file", "--dataset.path", "text.txt", *SMALL, "--model.hidden", "3"]
OF_VALUES = ["--dataset", "noisy-sine", "--tokenizer", "standardize", *SMALL, "--model.hidden", "3"]
COMMANDS = {
    "rnn": ["run", *OF_TEXT],
    "best": ["run", *OF_TEXT, "--keep", "best", "--metrics", "accuracy"],
    "bpe": ["run", *OF_TEXT, "--tokenizer", "bpe:vocab-size=260", "--optimizer", "adam"],
    "ngram": ["run", *OF_TEXT[:8], "--model", "ngram:order=2"],
    "series": ["run", *OF_VALUES],
    "pairs": ["run", "--dataset", "add", *SMALL, "--model.hidden", "3"],
    "sweep": ["sweep", *OF_TEXT, "--seeds", "0,1", "--launcher", "none"],
    "tracked": ["run", *OF_TEXT, "--tracker", "tensorboard"],
    "halves": ["run", *OF_TEXT, "--load", "halves.py", "--optimizer", "halves"],
    "diverged": ["run", *OF_TEXT, "--optimizer.learning-rate", "1e38", "--optimizer.clip-norm", "none"],
}
"""Name -> the command that makes the run in the folder of this name, and that opens it again."""
QUICK = ("rnn", "unfinished")


def make_runs(folder: Path, quick: bool) -> list[str]:
    """Makes the runs in a folder, and returns their names."""
    (folder / "text.txt").write_text(TEXT)
    (folder / "halves.py").write_text(HALVES)
    tasks = {name: lambda name=name: main([*COMMANDS[name], "--out", name]) for name in COMMANDS}
    tasks |= {"unfinished": _unfinished, "memory": _memory}
    chosen = [name for name in tasks if name in QUICK or not quick]
    for name, outcome in outcomes((name, folder, tasks[name]) for name in chosen):
        assert outcome.code == (3 if name == "diverged" else 0), (name, outcome)
    return chosen


def _unfinished():
    """A run that was interrupted after its first epoch."""

    def interrupt(run):
        raise KeyboardInterrupt

    sampler = create("sampler", "sequential", batch_size=2, num_steps=5)
    model, dataset = create("model", "rnn", hidden=3), create("dataset", "text-file", path="text.txt")
    experiment = Experiment(dataset=dataset, model=model, sampler=sampler, train=200, heldout=60, epochs=2)
    with contextlib.suppress(KeyboardInterrupt):
        experiment.run("unfinished", callback=interrupt)
    return 0


def _memory():
    """A run on data that were given in Python."""
    sampler = create("sampler", "sequential", batch_size=2, num_steps=5)
    values = np.stack([np.sin(np.arange(90) / 3), np.cos(np.arange(90) / 5)], 1)
    heldout = Series(values[:40])
    model = create("model", "gru", hidden=3)
    Experiment(dataset=Series(values), heldout=heldout, model=model, sampler=sampler, epochs=2).run("memory")
    return 0

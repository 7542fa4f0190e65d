"""The experiment of the tests of sweeps and signals: one shape, so that its programs are traced and compiled once.

Two devices do not divide its batch, so that every test trains it on one.
"""

import contextlib
import functools
import importlib.metadata
import os
from collections.abc import Iterator

import pytest

from seqjax import Error, Experiment, Text
from seqjax.models import RNN
from seqjax.optimizers import SGD
from seqjax.report import plot
from seqjax.runs import environment
from seqjax.samplers import Sequential
from seqjax.training import feed
from support.crash import NoFigure

TEXT = "the cat sat on the mat and the dog sat on the log. " * 6
BASE = Experiment(
    dataset=Text(TEXT), train=160, heldout=60, model=RNN(hidden=3), sampler=Sequential(3, 8),
    optimizer=SGD(0.5, clip_norm=1.0), epochs=2,
)  # fmt: skip
FLAGS = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", "160", "--heldout", "60"),
    *("--model.hidden", "3", "--sampler", "sequential", "--sampler.batch-size", "3", "--sampler.num-steps", "8"),
    *("--optimizer.learning-rate", "0.5", "--epochs", "2"),
]
"""The same on the command line, for a file with this text."""
AXES = {"seed": range(2), "optimizer.learning_rate": {"fast": 0.5, "slow": 0.1}}
NAMES = ["fast, seed=0", "fast, seed=1", "slow, seed=0", "slow, seed=1"]
"""The axes of the sweep that tests share, and the names of its runs."""
CHUNKS = 3
"""The number of chunks of each epoch, all of one length whatever the seed."""


@contextlib.contextmanager
def refused(*words: str, exit_code: int = 2) -> Iterator[None]:
    """A context that has to raise an `Error` with this exit code, whose message has these words."""
    with pytest.raises(Error) as caught:
        yield
    assert caught.value.exit_code == exit_code
    for word in words:
        assert word in str(caught.value)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """A context in which an epoch has three chunks. What takes longer than the training is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "CHUNK_STEPS", 48)
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(importlib.metadata, "version", functools.cache(importlib.metadata.version))
        patch.setattr(environment, "_git_commit", lambda: None)
        patch.setattr(plot, "history", NoFigure)
        patch.setattr(plot, "runs", NoFigure)
        yield

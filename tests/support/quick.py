"""The experiment of the tests of sweeps and signals: one shape, so that its programs are traced and compiled once."""

import contextlib
from collections.abc import Iterator

import pytest

from seqjax import Experiment, Text
from seqjax.report import plot
from seqjax.training import feed
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential
from support.crash import NoFigure

TEXT = "the cat sat on the mat and the dog sat on the log. " * 6
BASE = Experiment(
    dataset=Text(TEXT), train=204, heldout=60, model=RNN(hidden=3), sampler=Sequential(2, 8),
    optimizer=SGD(0.5, clip_norm=1.0), epochs=2,
)  # fmt: skip
FLAGS = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", "204", "--heldout", "60"),
    *("--model.hidden", "3", "--sampler", "sequential", "--sampler.batch-size", "2", "--sampler.num-steps", "8"),
    *("--optimizer.learning-rate", "0.5", "--epochs", "2"),
]
"""The same on the command line, for a file with this text."""
CHUNKS = 3
"""The number of chunks of each epoch, all of one length whatever the seed."""


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """A context in which an epoch has three chunks, and no figure is drawn, which takes longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "CHUNK_STEPS", 64)
        patch.setattr(plot, "history", NoFigure)
        patch.setattr(plot, "runs", NoFigure)
        yield

"""How far a training has come, and what is known of it at the end of an epoch."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from seqjax.columns import Epoch
from seqjax.gradients.contract.gradient import Gradient
from seqjax.training.epoch import TrainState
from seqjax.training.feed import Chunk
from seqjax.training.optimizer import learning_rate
from seqjax.training.processes import whole


class ChunkResult(NamedTuple):
    """What a chunk of training gives beside the state.

    Args:
        updates: `loss`, `tokens` and `grad_norm` of its updates, float64[n] each.
        compile_seconds: time that compiling took.
        seconds: time that the updates took.
    """

    updates: Mapping[str, np.ndarray]
    compile_seconds: float
    seconds: float


class Progress(NamedTuple):
    """How far training has come.

    Args:
        epoch: the current epoch, counted from 0.
        done: whether it is complete.
        updates: `loss`, `tokens` and `grad_norm` of its updates so far, float64[n] each; empty before the first one.
        compile_seconds: time that compiling took in this epoch.
        epoch_seconds: time that its training took so far.
        tokens: targets scored since update 0, before this epoch.
        seconds: time that training took since update 0, before this epoch, without compiling.
    """

    epoch: int = 0
    done: bool = True
    updates: Mapping[str, np.ndarray] = {}
    compile_seconds: float = 0.0
    epoch_seconds: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def after(self, chunk: Chunk, result: ChunkResult) -> "Progress":
        """The progress after one more chunk, which has given this result."""
        before = self._before_epoch(chunk.epoch) if self.done else self
        updates = {name: np.append(before.updates.get(name, []), values) for name, values in result.updates.items()}
        return before._replace(
            done=chunk.is_last,
            updates=updates,
            compile_seconds=before.compile_seconds + result.compile_seconds,
            epoch_seconds=before.epoch_seconds + result.seconds,
        )

    def _before_epoch(self, epoch: int) -> "Progress":
        """The progress at the start of an epoch, when the one before it is complete."""
        tokens = int(np.sum(self.updates.get("tokens", 0)))
        return Progress(epoch, tokens=self.tokens + tokens, seconds=self.seconds + self.epoch_seconds)


def end_of_epoch(state: TrainState, progress: Progress) -> Epoch:
    """What is known at the end of an epoch, from which the columns of its row are computed.

    A count-based model has no norms of gradients.
    """
    counts, norms = progress.updates["tokens"], progress.updates.get("grad_norm")
    scored = counts.sum()
    return Epoch(
        epoch=progress.epoch + 1,
        update=int(state.update),
        tokens=progress.tokens + int(scored),
        seconds=progress.seconds + progress.epoch_seconds,
        compile_seconds=progress.compile_seconds,
        epoch_tokens=int(scored),
        epoch_seconds=progress.epoch_seconds,
        train_loss=float((progress.updates["loss"] * counts).sum() / scored) if scored else math.nan,
        grad_norm=math.nan if norms is None else float(norms.mean()),
        learning_rate=learning_rate(state.opt_state),
    )


def gradient_metrics(gradient: Gradient, state: TrainState) -> dict[str, float]:
    """The metrics of a gradient strategy after an epoch."""
    return {name: float(value) for name, value in gradient.metrics(whole(state.memory)).items()}

"""`Fit`: how a model gets its parameters from a stream, by gradient descent or by counting."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.stream import Stream
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.models.check import check_model, check_steps
from seqjax.models.model import CountBasedModel, ModelProblem
from seqjax.plugin.config import describe
from seqjax.training.devices import make_mesh
from seqjax.training.epoch import TrainState
from seqjax.training.evaluate import evaluate
from seqjax.training.loop import Progress, metrics_row, train_in_chunks
from seqjax.training.setup import TrainingSetup


class Fit:
    """How a model gets its parameters from a stream."""

    has_curve: bool
    """Whether it goes through the data several times, so that it has a learning curve."""
    num_devices: int
    """The number of devices that it uses."""
    params: Params | None = None
    """The initial parameters; None: those of the model."""

    def train(
        self, problem: ModelProblem, stream: Stream, state: TrainState | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[TrainState, Progress]]:
        """Yields state and progress after every chunk; given such a pair, resumes from there.

        Raises:
            Error: the problem cannot be fitted to the stream. It is raised by the call, before the first chunk.
        """
        raise NotImplementedError

    def row(self, state: TrainState, progress: Progress) -> dict[str, Any]:
        """The row of metrics of a complete epoch."""
        raise NotImplementedError

    def params_like(self, problem: ModelProblem) -> Params | None:
        """The structure and shapes of the parameters; None: they depend on the data."""
        raise NotImplementedError

    def model_line(self, problem: ModelProblem) -> str:
        """A line about the model and how it is fitted."""
        raise NotImplementedError

    def device_share(self, available: int) -> str:
        """A few words on how a batch is spread over the devices; empty for a single device."""
        return ""


@dataclass(frozen=True, eq=False)
class GradientDescent(Fit):
    """Trains by gradient descent, epoch after epoch."""

    setup: TrainingSetup
    """How the model is trained."""
    params: Params | None = None
    """The initial parameters; None: those of the model."""

    has_curve = True

    @property
    def num_devices(self) -> int:  # type: ignore[override]
        """The number of devices over which the rows of a batch are sharded."""
        return make_mesh(self.setup.sampler.batch_size, self.setup.devices).size

    def train(self, problem, stream, state=None, progress=None):
        if self.params is None:
            check_model(problem.model, problem.spec)
        else:
            check_steps(problem.model, problem.spec, self.params)
        return train_in_chunks(problem, stream, self.setup, params=self.params, state=state, progress=progress)

    def row(self, state, progress):
        return metrics_row(state, progress, self.setup.gradient)

    def params_like(self, problem):
        if self.params is not None:
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self.params)
        return jax.eval_shape(lambda: problem.init(jax.random.key(0)))

    def model_line(self, problem):
        size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.params_like(problem)))
        gradient, optimizer = describe(self.setup.gradient), describe(self.setup.optimizer)
        return f"{describe(problem.model)} · {size:,} parameters · gradient {gradient} · {optimizer}"

    def device_share(self, available):
        batch = self.setup.sampler.batch_size
        return f"batch of {batch} over {self.num_devices} of {available} devices" if available > 1 else ""


@dataclass(frozen=True)
class Counting(Fit):
    """Fits a count-based model in one pass over the data."""

    has_curve = False
    num_devices = 1

    def train(self, problem, stream, state=None, progress=None):
        if not isinstance(problem.model, CountBasedModel):
            raise Error(f"model {type(problem.model).__name__} has no `count`; train it")
        began = time.perf_counter()
        params = jax.tree.map(jnp.asarray, problem.model.count(stream, problem.spec))
        return self._evaluated(problem, stream, params, time.perf_counter() - began)

    def _evaluated(self, problem, stream, params, seconds):
        """Yields the only chunk, in which the model is evaluated."""
        loss = evaluate(problem, params, stream)["loss"]
        updates = {"loss": np.array([loss]), "tokens": np.array([len(stream.targets)])}
        state = TrainState(params, (), (), (), (), jnp.zeros((), jnp.int32))
        yield state, Progress(done=True, updates=updates, epoch_seconds=seconds)

    def row(self, state, progress):
        (loss,), (tokens,) = progress.updates["loss"].tolist(), progress.updates["tokens"].tolist()
        return {
            "epoch": 1,
            "update": 0,
            "tokens": tokens,
            "seconds": progress.epoch_seconds,
            "compile_seconds": 0.0,
            "train_loss": loss,
            "grad_norm": math.nan,
            "learning_rate": math.nan,
            "tokens_per_second": tokens / progress.epoch_seconds,
        }

    def params_like(self, problem):
        return None

    def model_line(self, problem):
        return f"{describe(problem.model)} · counted"

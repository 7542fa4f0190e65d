"""`Fit`: how a model gets its parameters from a stream, by gradient descent or by counting."""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.stream import Stream
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.problem import Params
from seqjax.gradients.steps.precision import Precision
from seqjax.models.check import check_model, check_steps, fitting
from seqjax.models.model import CountBasedModel, ForeignModel, ModelProblem
from seqjax.plugin.config import describe
from seqjax.training.devices import make_mesh, usable_devices
from seqjax.training.epoch import TrainState
from seqjax.training.evaluating import evaluate
from seqjax.training.loop import train_in_chunks
from seqjax.training.progress import Progress, gradient_metrics
from seqjax.training.setup import TrainingSetup


@dataclass(frozen=True, eq=False)
class GradientDescent:
    """Trains by gradient descent, epoch after epoch."""

    setup: TrainingSetup
    """How the model is trained."""
    params: Params | None = None
    """The initial parameters; None: those of the model."""

    has_curve: ClassVar[bool] = True
    """Whether it goes through the data several times, so that it has a learning curve."""

    @property
    def num_devices(self) -> int:
        """The number of devices over which the rows of a batch are sharded."""
        return make_mesh(self.setup.sampler.batch_size, self.setup.devices).size

    @property
    def precision(self) -> Precision:
        """The precision in which it is computed."""
        return self.setup.precision if self.setup.gradient.rounds else "float32"

    def as_begun(self, devices: int) -> "GradientDescent":
        """A copy for a run that was begun on so many devices, which uses as many if none are asked for."""
        # Another number of devices changes the last bits. Fewer devices than then are refused by `refuse_environment`.
        if self.setup.devices is None and devices in usable_devices(self.setup.sampler.batch_size):
            return dataclasses.replace(self, setup=dataclasses.replace(self.setup, devices=devices))
        return self

    def train(
        self, problem: ModelProblem, stream: Stream, state: TrainState | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[TrainState, Progress]]:
        """Yields state and progress after every chunk; given such a pair, resumes from there.

        Raises:
            Error: the problem cannot be trained. It is raised by the call, before the first chunk.
        """
        if self.params is None:
            check_model(problem.model, problem.spec)
        else:
            with fitting(problem, self.params):
                check_steps(problem.model, problem.spec, self.params)
        return train_in_chunks(problem, stream, self.setup, params=self.params, state=state, progress=progress)

    def own_metrics(self, state: TrainState) -> dict[str, float]:
        """The metrics of the gradient strategy at the end of an epoch."""
        return gradient_metrics(self.setup.gradient, state)

    def params_like(self, problem: ModelProblem) -> Params | None:
        """The structure and shapes of the parameters; None: the model of another library does not know them."""
        if self.params is not None:
            return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), self.params)
        if isinstance(problem.model, ForeignModel):
            return problem.model.params_like()
        return jax.eval_shape(jit_of(ModelProblem.init, problem), jax.random.key(0))

    def num_params(self, problem: ModelProblem) -> int:
        """The number of entries of all parameters."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.params_like(problem)))

    def model_line(self, problem: ModelProblem) -> str:
        """A line about the model and how it is fitted."""
        size = self.num_params(problem)
        gradient, optimizer = describe(self.setup.gradient), describe(self.setup.optimizer)
        return f"{describe(problem.model)} · {size:,} parameters · gradient {gradient} · {optimizer}"

    def device_share(self, available: int) -> str:
        """A few words on how a batch is spread over the devices; empty for a single device."""
        batch = self.setup.sampler.batch_size
        return f"batch of {batch} over {self.num_devices} of {available} devices" if available > 1 else ""


@dataclass(frozen=True)
class Counting:
    """Fits a count-based model in one pass over the data. Its members are those of `GradientDescent`."""

    has_curve: ClassVar[bool] = False
    num_devices: ClassVar[int] = 1
    precision: ClassVar[Precision] = "float32"
    params: ClassVar[None] = None

    def as_begun(self, devices: int) -> "Counting":
        """A count-based model uses one device, so nothing changes."""
        return self

    def train(
        self, problem: ModelProblem, stream: Stream, state: TrainState | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[TrainState, Progress]]:
        """Counts, and yields state and progress of the only chunk, in which the model is evaluated."""
        assert isinstance(problem.model, CountBasedModel)
        began = time.perf_counter()
        params = jax.tree.map(jnp.asarray, problem.model.count(stream, problem.spec))
        return self._evaluated(problem, stream, params, time.perf_counter() - began)

    def _evaluated(
        self, problem: ModelProblem, stream: Stream, params: Params, seconds: float
    ) -> Iterator[tuple[TrainState, Progress]]:
        """The generator of `train`."""
        loss = evaluate(problem, params, stream)["loss"]
        updates = {"loss": np.array([loss]), "tokens": np.array([len(stream.targets)])}
        state = TrainState(params, (), (), (), (), jnp.zeros((), jnp.int32))
        yield state, Progress(updates=updates, epoch_seconds=seconds)

    def own_metrics(self, state: TrainState) -> dict[str, float]:
        """None, since there is no gradient strategy."""
        return {}

    def params_like(self, problem: ModelProblem) -> Params | None:
        """None: the shapes of the parameters depend on the data."""
        return None

    def model_line(self, problem: ModelProblem) -> str:
        """A line about the model and how it is fitted."""
        return f"{describe(problem.model)} · counted"

    def device_share(self, available: int) -> str:
        """Nothing, since there is no batch."""
        return ""


Fit = GradientDescent | Counting
"""How a model gets its parameters from a stream."""

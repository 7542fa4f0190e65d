"""The training loop, chunk by chunk, each one compiled call that donates its state; the error of one that diverges."""

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

from seqjax.columns import row_of
from seqjax.data.sampler import Sampler
from seqjax.data.stream import Stream, check_stream
from seqjax.errors import Error, check_type
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.steps.precision import Precision
from seqjax.plugin.author import mistakes_of
from seqjax.training.epoch import EpochArguments, TrainState, compiled_epoch, copy_of
from seqjax.training.feed import Chunk, chunks, feed
from seqjax.training.first_call import first_call
from seqjax.training.optimizer import Optimizer, learning_rate
from seqjax.training.processes import whole
from seqjax.training.progress import ChunkResult, Progress, end_of_epoch, gradient_metrics
from seqjax.training.setup import TrainingSetup

stepping = threading.Event()
"""Set after compiling, before updates are computed. A caller that waits for it clears it first."""


class Diverged(Error):  # noqa: N818
    """A loss or gradient was not finite.

    Attributes:
        state: the last good state, before that update; None: it diverged in an earlier process.
        run: the `Run` that was trained, if any.
    """

    def __init__(self, message: str, state: TrainState | None, run: Any = None):
        super().__init__(message, exit_code=3)
        self.state = state
        self.run = run


Outcome = tuple[TrainState, Progress] | Diverged
"""What a run has after a chunk of its training: state and progress, or the error of a run that has diverged."""


def train(
    problem: Problem,
    stream: Stream,
    *,
    sampler: Sampler,
    gradient: Gradient,
    optimizer: Optimizer | optax.GradientTransformation,
    epochs: int,
    seed: int = 0,
    params: Params | None = None,
    state: TrainState | None = None,
    devices: int | None = None,
    precision: Precision = "float32",
) -> Iterator[tuple[TrainState, dict[str, Any]]]:
    """Trains, and yields the state and a row of metrics after each epoch.

    A row has epoch, update, tokens and seconds (both since the call, without compiling), compile_seconds (of this
    epoch), train_loss, grad_norm (mean, before clipping), learning_rate and tokens_per_second, and the metrics of the
    gradient strategy, such as gradient_bias of `certified`. The state that is yielded is a copy, which may be kept.

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import optax
    >>> import seqjax as sj
    >>> from seqjax.data import Stream
    >>> from seqjax.gradients import Full
    >>> from seqjax.samplers import Sequential
    >>> def step(w, s, x):
    ...     return s, (w * x[0] - x[1]) ** 2
    >>> problem = sj.Problem(step, init_state=lambda w, key=None: ())
    >>> x = np.linspace(-1, 1, 60)
    >>> stream = Stream(x, 3 * x, bounds=[0, 60])
    >>> parts = {"sampler": Sequential(batch_size=2, num_steps=3), "gradient": Full(), "optimizer": optax.adam(1.0)}
    >>> for state, metrics in sj.train(problem, stream, **parts, epochs=10, params=jnp.zeros(())):
    ...     pass
    >>> metrics["epoch"], round(float(state.params), 1)
    (10, 3.0)

    Args:
        problem: the problem to train.
        stream: the data.
        sampler: chooses the windows of an epoch.
        gradient: the gradient strategy.
        optimizer: an optimizer plugin or any optax transformation.
        epochs: the number of epochs, counted from update 0.
        seed: seed of the parameters, the sampler and the gradient strategy.
        params: initial parameters; None: those of the model. Required if the problem has no model.
        state: the state to resume from, which an earlier call yielded with the other arguments equal.
        devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
        precision: "bfloat16": steps are computed in bfloat16. Parameters, the optimizer, losses and the sums of
            gradients over time stay in float32, and so does all of strategies with `rounds = False`, such as `rtrl`.

    Raises:
        Error: the problem cannot be trained. It is raised by the call.
        Diverged: a loss or gradient is not finite.
    """
    check_type("train: state", state, TrainState | None, "a state that an earlier call has yielded, or None")
    setup = TrainingSetup(
        sampler=sampler,
        gradient=gradient,
        optimizer=optimizer,
        epochs=epochs,
        seed=seed,
        devices=devices,
        precision=precision,
    )
    trained = train_in_chunks(problem, stream, setup, params=params, state=state)
    # The next chunk reuses the buffers of the state, so the caller gets a copy.
    return (
        (copy_of(new), row_of(end_of_epoch(new, progress)) | gradient_metrics(gradient, new))
        for new, progress in trained
        if progress.done
    )


def train_in_chunks(
    problem: Problem,
    stream: Stream,
    setup: TrainingSetup,
    *,
    params: Params | None = None,
    state: TrainState | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[TrainState, Progress]]:
    """Trains, and yields state and progress after every chunk of `CHUNK_STEPS` time steps and after every epoch.

    Args:
        problem: the problem to train.
        stream: the data.
        setup: how it is trained.
        params: initial parameters; None: those of the model.
        state: the state to resume from, as yielded after a chunk; the result has the same bits.
        progress: the progress that was yielded with `state`.

    Raises:
        Error: the problem cannot be trained. It is raised by the call, before the first chunk.
        Diverged: a loss or gradient is not finite.
    """
    stream = check_stream(stream)
    with mistakes_of(setup.gradient, setup.optimizer, getattr(problem, "model", None)):
        call = first_call(problem, stream, setup, params, state)
        # It finds faults of plugins in this call, before the first chunk. Tracing leaves cores idle, on which the
        # initial parameters compile. While the epoch compiles, no core is idle, since XLA uses all of them.
        compiled_epoch.lower(*call.shapes)
        arguments = call.make()
    return _train(arguments, setup, stream, progress or Progress())


def _train(
    arguments: EpochArguments, setup: TrainingSetup, stream: Stream, progress: Progress
) -> Iterator[tuple[TrainState, Progress]]:
    """The generator of `train_in_chunks`."""
    program, state = arguments.program, arguments.state
    planned = chunks(setup, stream.bounds, program.problem.warmup, done=int(state.update))
    for chunk, part in feed(planned, stream, program.num_steps, program.mesh):
        call = arguments._replace(state=state, stream=part, plan=chunk.plan, num_batches=chunk.num_batches)
        state, result = timed_call(compiled_epoch, call)
        progress = progress.after(chunk, result)
        if int(state.update) != chunk.stop:
            raise divergence(state, progress, chunk)
        yield state, progress


def timed_call(compiled: Any, args: EpochArguments) -> tuple[TrainState, ChunkResult]:
    """Calls `compiled_epoch` or `compiled_epochs`, and measures the time."""
    began = time.perf_counter()
    compiled.lower(*args).compile()  # compiled here to be timed; the call below uses the same program
    has_compiled = time.perf_counter()
    stepping.set()
    state, updates = compiled(*args)
    updates = jax.device_get(updates)  # Ctrl-C interrupts this wait; it does not interrupt np.asarray
    ended = time.perf_counter()
    updates = {name: np.asarray(values, np.float64)[..., : int(args.num_batches)] for name, values in updates.items()}
    return state, ChunkResult(updates, has_compiled - began, ended - has_compiled)


def divergence(state: TrainState, progress: Progress, chunk: Chunk) -> Diverged:
    """The error of a training that stopped at an update of this chunk, the last one that `progress` has."""
    loss, norm = (progress.updates[name][int(state.update) - chunk.stop] for name in ("loss", "grad_norm"))
    after = ", and parameters after it that are not finite" if math.isfinite(loss) and math.isfinite(norm) else ""
    return Diverged(
        f"diverged at update {int(state.update) + 1} (epoch {progress.epoch + 1}): loss {loss:g}, "
        f"gradient norm {norm:g}{after}; the state before it is kept\n"
        f"Try a smaller learning rate (it was {learning_rate(state.opt_state):g}), "
        "or clip the gradient to a smaller norm (--optimizer.clip-norm)",
        whole(state),
    )

"""The training loop: an epoch is split into chunks, and each chunk is one compiled call that donates its state."""

import functools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.data.sampler import Plan, Sampler, draw_plan
from seqjax.data.stream import Stream, check_stream
from seqjax.data.windows import past_warmup
from seqjax.errors import Error
from seqjax.gradients.base import Gradient, init_memory
from seqjax.gradients.check_scan import check_params
from seqjax.gradients.edges import RandomCuts, check_hazard
from seqjax.gradients.problem import Params, Problem, check_problem
from seqjax.models.check import check_bare_problem
from seqjax.models.model import ModelProblem
from seqjax.plugin.author import tracing
from seqjax.training.devices import make_mesh
from seqjax.training.epoch import Program, TrainState, compiled_epoch, compiled_epochs, to_devices
from seqjax.training.optimizer import Optimizer, build, check_update, learning_rate
from seqjax.training.processes import whole
from seqjax.training.setup import TrainingSetup

CHUNK_STEPS = 2**18
"""Time steps of a chunk, summed over its rows. Training may be interrupted, and its state saved, after each chunk."""


class Diverged(Error):  # noqa: N818
    """A loss or gradient was not finite.

    Attributes:
        state: the last good state, before that update.
        run: the `Run` that was trained, if any.
    """

    def __init__(self, message: str, state: TrainState, run: Any = None):
        super().__init__(message, exit_code=3)
        self.state = state
        self.run = run


def training(
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
    dtype: Any = None,
) -> Iterator[tuple[TrainState, dict[str, Any]]]:
    """Trains, and yields the state and a row of metrics after each epoch.

    A row has epoch, update, tokens and seconds (both since the call, without compiling), compile_seconds (of this
    epoch), train_loss, grad_norm (mean, before clipping), learning_rate and tokens_per_second, and the metrics of the
    gradient strategy, such as gradient_bias of `certified`. The state that is yielded is a copy, which may be kept.

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
        dtype: dtype of the model's computation, such as `jnp.bfloat16`; None: that of the parameters.

    Raises:
        Error: the problem cannot be trained. It is raised by the call.
        Diverged: a loss or gradient is not finite.
    """
    setup = TrainingSetup(
        sampler=sampler, gradient=gradient, optimizer=optimizer, epochs=epochs, seed=seed, devices=devices, dtype=dtype
    )
    chunks = train_in_chunks(problem, stream, setup, params=params, state=state)
    # The next chunk reuses the buffers of the state, so the caller gets a copy.
    return ((_copy(new), metrics_row(new, progress, gradient)) for new, progress in chunks if progress.done)


@jax.jit
def _copy(state):
    """A copy of the state, in one compiled call, which takes less time than a call for each leaf."""
    return jax.tree.map(jnp.copy, state)


class Progress(NamedTuple):
    """How far training has come.

    Args:
        epoch: the current epoch, counted from 0.
        done: whether it is complete.
        updates: `loss`, `tokens` and `grad_norm` of its updates so far, float64[n] each.
        compile_seconds: time that compiling took in this epoch.
        epoch_seconds: time that its training took so far.
        tokens: targets scored since update 0, before this epoch.
        seconds: time that training took since update 0, before this epoch, without compiling.
    """

    epoch: int = 0
    done: bool = True
    updates: dict[str, np.ndarray] | None = None
    compile_seconds: float = 0.0
    epoch_seconds: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def epochs_done(self) -> int:
        """The number of complete epochs."""
        return self.epoch + self.done if self.updates is not None else 0

    def next_epoch(self, epoch: int) -> "Progress":
        """The progress at the start of `epoch`."""
        tokens = 0 if self.updates is None else int(self.updates["tokens"].sum())
        return Progress(epoch, tokens=self.tokens + tokens, seconds=self.seconds + self.epoch_seconds)

    def add(self, updates: dict[str, np.ndarray], seconds: Sequence[float], done: bool) -> "Progress":
        """The progress after more updates.

        Args:
            updates: as in `Progress`.
            seconds: the seconds of compiling, and those of the updates.
            done: whether they complete the epoch.
        """
        if self.updates is not None:
            updates = {name: np.concatenate([self.updates[name], values]) for name, values in updates.items()}
        compile_seconds, update_seconds = seconds
        return self._replace(
            done=done,
            updates=updates,
            compile_seconds=self.compile_seconds + compile_seconds,
            epoch_seconds=self.epoch_seconds + update_seconds,
        )


Outcome = tuple[TrainState, Progress] | Diverged | None
"""The outcome of a chunk of training; None: the run diverged in an earlier chunk."""


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
    with tracing(setup.gradient, setup.optimizer, getattr(problem, "model", None)):
        arguments = first_call(problem, stream, setup, params, state)
        compiled_epoch.eval_shape(*arguments)  # finds faults of plugins in this call, before the first chunk
    return _train(arguments, setup, stream.bounds, progress or Progress())


def _train(arguments, setup, bounds, progress):
    """The generator of `train_in_chunks`."""
    state, stream, _, program = arguments
    for chunk in _chunks(setup, bounds, program.problem.warmup, 1, int(state.update)):
        if progress.done:
            progress = progress.next_epoch(chunk.epoch)
        plan = to_devices(chunk.plan, program.mesh)
        state, updates, seconds = _timed_call(compiled_epoch, (state, stream, plan, program))
        progress = progress.add(updates, seconds, chunk.is_last)
        if int(state.update) != chunk.stop:
            raise _diverged(state, progress, chunk.stop)
        yield state, progress


def train_side_by_side(
    problem: Problem, stream: Stream, setups: Sequence[TrainingSetup], fields: dict[str, list[float]]
) -> Iterator[list[Outcome]]:
    """Trains R runs on one device in one compiled call, and yields their outcomes after every chunk.

    On an accelerator a small model leaves most of the device idle, and R runs take little longer than one. On a CPU
    nothing is gained. The time of a chunk is divided equally among the runs.

    Args:
        problem: the problem to train.
        stream: the data.
        setups: how each run is trained. They differ only in the seed and in fields of the optimizer, and their epochs
            have the same number of batches.
        fields: name -> R values, the fields of the optimizer that differ.

    Yields:
        For each run: state and progress; the error if it diverged in this chunk; None if it diverged before.
    """
    stream = check_stream(stream)
    problem = _in_dtype(problem, setups[0].dtype)
    _, program = _plan_program(problem, stream, setups[0])
    on_device = to_devices(stream._replace(bounds=None), program.mesh)
    values = {name: jnp.asarray(column) for name, column in fields.items()}
    states = _stack([init_train_state(problem, setup, program.num_updates) for setup in setups])
    progresses, good = [Progress()] * len(setups), [True] * len(setups)
    each = (_chunks(setup, stream.bounds, problem.warmup, len(setups)) for setup in setups)
    for chunks in zip(*each, strict=True):
        plans = _stack([chunk.plan for chunk in chunks])
        states, updates, seconds = _timed_call(compiled_epochs, (states, values, on_device, plans, program))
        outcomes: list[Outcome] = []
        for i, chunk in enumerate(chunks):
            if not good[i]:
                outcomes.append(None)
                continue
            if progresses[i].done:
                progresses[i] = progresses[i].next_epoch(chunk.epoch)
            mine = {name: rows[i] for name, rows in updates.items()}
            progresses[i] = progresses[i].add(mine, [s / len(setups) for s in seconds], chunk.is_last)
            state = jax.tree.map(lambda a, i=i: a[i], states)
            good[i] = int(state.update) == chunk.stop
            outcomes.append((state, progresses[i]) if good[i] else _diverged(state, progresses[i], chunk.stop))
        yield outcomes


class _Chunk(NamedTuple):
    """Some batches of an epoch: its number, their plan, the update count after them, whether they complete it."""

    epoch: int
    plan: Plan
    stop: int
    is_last: bool


def _chunks(setup, bounds, warmup, num_runs, done=0):
    """The chunks of all epochs from update `done` on. Those of n runs side by side have 1/n of the length."""
    sampler = setup.sampler
    size = max(1, CHUNK_STEPS // (num_runs * sampler.batch_size * sampler.num_steps))
    first = 0
    for epoch in range(setup.epochs):
        plan = draw_plan(sampler, bounds, setup.seed, epoch)
        # Before chunking: a chunk cannot see earlier resets, from which the warm-up counts.
        plan = past_warmup(plan, warmup, sampler.num_steps) if warmup else plan
        last = first + len(plan.starts)
        while done < last:
            # Chunks end at multiples of `size` from the start of the epoch, so that a resumed run is cut into the same
            # chunks as an uninterrupted one.
            stop = min(last, first + (done - first) // size * size + size)
            batches = slice(done - first, stop - first)
            yield _Chunk(epoch, jax.tree.map(lambda a, rows=batches: a[rows], plan), stop, stop == last)
            done = stop
        first = last


def _timed_call(compiled: Any, args: tuple) -> tuple[TrainState, dict[str, np.ndarray], tuple[float, float]]:
    """Calls a jitted function. Returns state, updates (float64), and the seconds of compiling and of the rest."""
    clock = [time.perf_counter()]
    compiled.lower(*args).compile()  # compiled here to be timed; the call below uses the same program
    clock.append(time.perf_counter())
    state, updates = compiled(*args)
    updates = jax.device_get(updates)  # Ctrl-C interrupts this wait; it does not interrupt np.asarray
    clock.append(time.perf_counter())
    updates = {name: np.asarray(values, np.float64) for name, values in updates.items()}
    return state, updates, (clock[1] - clock[0], clock[2] - clock[1])


def metrics_row(state: TrainState, progress: Progress, gradient: Gradient) -> dict[str, Any]:
    """The row of metrics of a complete epoch, with those of the gradient strategy at its end."""
    assert progress.updates is not None
    counts = progress.updates["tokens"]
    scored = counts.sum()
    return {
        "epoch": progress.epoch + 1,
        "update": int(state.update),
        "tokens": progress.tokens + int(scored),
        "seconds": progress.seconds + progress.epoch_seconds,
        "compile_seconds": progress.compile_seconds,
        "train_loss": float((progress.updates["loss"] * counts).sum() / scored) if scored else math.nan,
        "grad_norm": float(progress.updates["grad_norm"].mean()),
        "learning_rate": learning_rate(state.opt_state),
        "tokens_per_second": float(scored / progress.epoch_seconds),
    } | {name: float(value) for name, value in gradient.metrics(whole(state.memory)).items()}


def first_call(
    problem: Problem,
    stream: Stream,
    setup: TrainingSetup,
    params: Params | None = None,
    state: TrainState | None = None,
) -> tuple[TrainState, Stream, Plan, Program]:
    """The arguments of `compiled_epoch` for the whole first epoch, on the devices."""
    problem = _in_dtype(problem, setup.dtype)
    check_problem("training", problem)
    plan, program = _plan_program(problem, stream, setup)
    arguments = _placed(stream, plan, program, setup, params, state)
    check_bare_problem(problem, arguments[0].params, arguments[0].carry, stream, plan.starts[0])
    return arguments


def _in_dtype(problem, dtype):
    if dtype is None:
        return problem
    if not isinstance(problem, ModelProblem):
        raise Error(f"dtype = {dtype}: only a problem with a model can be computed in another dtype; leave it out")
    return problem.model.problem(problem.spec, problem.loss, dtype)


def _plan_program(problem, stream, setup):
    """The plan of the first epoch, and the program of all of them; an error unless some step is scored."""
    sampler = setup.sampler
    if stream.mask is not None and not np.any(stream.mask):
        raise Error("nothing is scored: the mask of the training part is False everywhere")
    mesh = make_mesh(sampler.batch_size, setup.devices)
    plan = draw_plan(sampler, stream.bounds, setup.seed, 0)
    if not _scored_windows(problem, stream, plan, sampler.num_steps).any():
        raise Error(
            f"nothing is scored: the first {problem.warmup} outputs after a reset are the warm-up of the model, "
            f"and no window of num_steps = {sampler.num_steps} is longer\n"
            "Use longer windows (--sampler.num-steps), or a model with less warm-up, such as fewer --model.lags"
        )
    program = Program(
        problem=problem,
        gradient=setup.gradient,
        optimizer=setup.optimizer,
        num_updates=setup.epochs * len(plan.starts),
        num_steps=sampler.num_steps,
        mesh=mesh,
    )
    return plan, program


def _scored_windows(problem, stream, plan, num_steps):
    """The windows of a plan that have a scored step, bool[N, B]."""
    if problem.warmup:
        plan = past_warmup(plan, problem.warmup, num_steps)
    first, last = np.moveaxis(np.asarray(plan.scored), -1, 0)
    if stream.mask is None:
        return first < last
    before = np.pad(np.cumsum(np.asarray(stream.mask, np.int64)), (1, 0))
    return before[plan.starts + last] > before[plan.starts + np.minimum(first, last)]


def _placed(stream, plan, program, setup, params=None, state=None):
    if state is None:
        state = init_train_state(program.problem, setup, program.num_updates, params)
    state = jax.tree.map(jnp.copy, state)  # the copy is donated, so the caller's arrays stay valid
    mesh = program.mesh
    return to_devices(state, mesh), to_devices(stream._replace(bounds=None), mesh), to_devices(plan, mesh), program


def init_train_state(
    problem: Problem, setup: TrainingSetup, num_updates: int, params: Params | None = None
) -> TrainState:
    """The state before update 0.

    Args:
        problem: the problem to train.
        setup: how it is trained.
        num_updates: the number of updates of the whole training, on which schedules depend.
        params: the parameters; None: the initial ones of the model.
    """
    init_key, carry_key, key = jax.random.split(jax.random.key(setup.seed), 3)
    if params is None:
        if not isinstance(problem, ModelProblem):
            raise Error("a problem without a model has no initial parameters: pass params=")
        params = problem.init(init_key)
    check_params(params)
    assert problem.init_state is not None  # `first_call` has checked it
    num_rows = setup.sampler.batch_size
    row_keys = jax.vmap(functools.partial(jax.random.fold_in, carry_key))(jnp.arange(num_rows))
    carry = jax.vmap(problem.init_state, (None, 0))(params, row_keys)
    memory = init_memory(setup.gradient, problem, params, carry, num_rows)
    if isinstance(setup.gradient, RandomCuts):  # its values cannot be checked when it is traced
        check_hazard(setup.gradient, memory.shared, setup.sampler.num_steps)
    tx = setup.optimizer
    if isinstance(tx, Optimizer):
        tx = build(setup.optimizer, num_updates)
        check_update(setup.optimizer, tx, params)
    return TrainState(params, tx.init(params), carry, memory, key, jnp.zeros((), jnp.int32))


def _diverged(state: TrainState, progress: Progress, stop: int) -> Diverged:
    """The error of a training that stopped before update `stop`."""
    assert progress.updates is not None
    loss, norm = (progress.updates[name][int(state.update) - stop] for name in ("loss", "grad_norm"))
    after = ", and parameters after it that are not finite" if math.isfinite(loss) and math.isfinite(norm) else ""
    return Diverged(
        f"diverged at update {int(state.update) + 1} (epoch {progress.epoch + 1}): loss {loss:g}, "
        f"gradient norm {norm:g}{after}; the state before it is kept\n"
        f"Try a smaller learning rate (it was {learning_rate(state.opt_state):g}), "
        "or clip the gradient, such as --optimizer.clip-norm 1",
        whole(state),
    )


def _stack(trees):
    """Stacks trees of equal structure: the leaves have a new leading axis."""
    return jax.tree.map(
        lambda *leaves: np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves), *trees
    )

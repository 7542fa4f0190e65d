"""The training loop: an epoch is split into chunks, and each chunk is one compiled call that donates its state."""

import contextlib
import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.columns import Epoch, row_of
from seqjax.data.sampler import Plan, Sampler, draw_plan, shard_edges
from seqjax.data.stream import Stream, check_stream
from seqjax.data.windows import past_warmup
from seqjax.errors import Error, check_type
from seqjax.gradients.base import Gradient, init_memory
from seqjax.gradients.check_scan import check_params
from seqjax.gradients.compiling import jit_of
from seqjax.gradients.precision import Precision
from seqjax.gradients.problem import Params, Problem, check_problem
from seqjax.memory import check_memory
from seqjax.models.check import check_bare_problem, fitting
from seqjax.models.model import ModelProblem
from seqjax.plugin.author import mistakes_of
from seqjax.plugin.config import describe
from seqjax.training.devices import make_mesh
from seqjax.training.epoch import (
    Arguments,
    Program,
    TrainState,
    compiled_epoch,
    compiled_epochs,
    shapes_on_devices,
    to_devices,
)
from seqjax.training.feed import Chunk, chunks, feed, on_devices
from seqjax.training.optimizer import Optimizer, Recipe, build, check_update, learning_rate, numbers_of
from seqjax.training.processes import whole
from seqjax.training.setup import TrainingSetup

_COMPILER = ThreadPoolExecutor(1, "compiler")
"""The thread in which initial parameters are compiled."""
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
    >>> from seqjax_gradients import Full
    >>> from seqjax_samplers import Sequential
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


@jax.jit
def copy_of[T](tree: T) -> T:
    """A copy of arrays, in one compiled call, which takes less time than a call for each leaf."""
    return jax.tree.map(jnp.copy, tree)


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


Outcome = tuple[TrainState, Progress] | Diverged
"""What a run has after a chunk of its training: state and progress, or the error of a run that has diverged."""


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
    arguments: Arguments, setup: TrainingSetup, stream: Stream, progress: Progress
) -> Iterator[tuple[TrainState, Progress]]:
    """The generator of `train_in_chunks`."""
    program, state = arguments.program, arguments.state
    planned = chunks(setup, stream.bounds, program.problem.warmup, done=int(state.update))
    for chunk, part in feed(planned, stream, program.num_steps, program.mesh):
        call = arguments._replace(state=state, stream=part, plan=chunk.plan, num_batches=chunk.num_batches)
        state, result = _timed_call(compiled_epoch, call)
        progress = progress.after(chunk, result)
        if int(state.update) != chunk.stop:
            raise _diverged(state, progress, chunk)
        yield state, progress


def train_side_by_side(
    problem: Problem, stream: Stream, setups: Sequence[TrainingSetup], fields: dict[str, list[float]]
) -> Iterator[list[Outcome]]:
    """Trains R runs on one device in one compiled call, and yields their outcomes after every chunk.

    On an accelerator a small model leaves most of the device idle, and R runs take little longer than one. On a CPU it
    is not faster. The time of a chunk is divided equally among the runs.

    Args:
        problem: the problem to train.
        stream: the data.
        setups: how each run is trained. They differ only in the seed and in fields of the optimizer, and their epochs
            have the same number of batches.
        fields: name -> R values, the fields of the optimizer that differ.

    Yields:
        For each run its outcome. That of a run that has diverged stays the same.
    """
    stream, num_runs = check_stream(stream), len(setups)
    problem = _in_precision(problem, setups[0])
    num_updates = _num_updates(setups[0], stream, _first_plan(problem, stream, setups[0]))
    each = [InitialState(problem, setup, num_updates).compute() for setup in setups]
    program, numbers = _program(problem, setups[0], num_updates, each[0].params)
    numbers = {name: jnp.full(num_runs, value) for name, value in numbers.items()}
    numbers |= {name: jnp.asarray(column) for name, column in fields.items()}
    states, whole = _stack(each), on_devices(stream, program.mesh)
    outcomes: list[Outcome] = [(state, Progress()) for state in each]
    chunks_of_each = (chunks(setup, stream.bounds, problem.warmup, num_runs) for setup in setups)
    for together in zip(*chunks_of_each, strict=True):
        plans = _stack([chunk.plan for chunk in together])
        call = Arguments(states, whole, plans, np.int32(together[0].num_batches), numbers, program)
        states, result = _timed_call(compiled_epochs, call)
        for i, (chunk, outcome) in enumerate(zip(together, outcomes, strict=True)):
            if isinstance(outcome, Diverged):
                continue
            _, progress = outcome
            progress = progress.after(chunk, _result_of_one(result, i, num_runs))
            state = jax.tree.map(lambda a, i=i: a[i], states)
            good = int(state.update) == chunk.stop
            outcomes[i] = (state, progress) if good else _diverged(state, progress, chunk)
        yield outcomes


def _result_of_one(result: ChunkResult, index: int, num_runs: int) -> ChunkResult:
    """The result of one of the runs that were trained side by side, each of which took an equal share of the time."""
    updates = {name: values[index] for name, values in result.updates.items()}
    return ChunkResult(updates, result.compile_seconds / num_runs, result.seconds / num_runs)


def _timed_call(compiled: Any, args: Arguments) -> tuple[TrainState, ChunkResult]:
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


def end_of_epoch(state: TrainState, progress: Progress) -> Epoch:
    """What is known at the end of an epoch, from which the columns of its row are computed."""
    counts = progress.updates["tokens"]
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
        grad_norm=float(progress.updates["grad_norm"].mean()),
        learning_rate=learning_rate(state.opt_state),
    )


def gradient_metrics(gradient: Gradient, state: TrainState) -> dict[str, float]:
    """The metrics of a gradient strategy after an epoch."""
    return {name: float(value) for name, value in gradient.metrics(whole(state.memory)).items()}


class FirstCall(NamedTuple):
    """The first call of `compiled_epoch`.

    Args:
        num_updates: the number of updates of the whole training.
        shapes: its arguments, with shapes and dtypes in place of the state; its program can be lowered with them.
        make: returns its arguments.
    """

    num_updates: int
    shapes: Arguments
    make: Callable[[], Arguments]


def first_call(
    problem: Problem,
    stream: Stream,
    setup: TrainingSetup,
    params: Params | None = None,
    state: TrainState | None = None,
) -> FirstCall:
    """The first call of `compiled_epoch`; arguments as those of `train_in_chunks`."""
    check_problem("train", problem)
    problem = _in_precision(problem, setup)
    plan = _first_plan(problem, stream, setup)
    num_updates = _num_updates(setup, stream, plan)
    with fitting(problem, params) if params is not None else contextlib.nullcontext():
        if state is None:
            initial = InitialState(problem, setup, num_updates, params)
            initial.compile()
            shapes, make = initial.shapes, initial.compute
        else:
            shapes, make = state, lambda: state
        check_bare_problem(problem, shapes.params, shapes.carry, stream, plan.starts[0])
    program, numbers = _program(problem, setup, num_updates, shapes.params)
    mesh = program.mesh
    first = itertools.islice(chunks(setup, stream.bounds, problem.warmup), 1)
    ((chunk, part),) = feed(first, stream, program.num_steps, mesh)
    arguments = Arguments(
        shapes_on_devices(shapes, mesh), part, chunk.plan, chunk.num_batches, to_devices(numbers, mesh), program
    )
    # The copy is donated, so that the caller's arrays stay valid.
    return FirstCall(num_updates, arguments, lambda: arguments._replace(state=to_devices(copy_of(make()), mesh)))


def _in_precision(problem: Problem, setup: TrainingSetup) -> Problem:
    return problem.in_bfloat16() if setup.precision == "bfloat16" and setup.gradient.rounds else problem


def _first_plan(problem: Problem, stream: Stream, setup: TrainingSetup) -> Plan:
    """The plan of the first epoch; an error if none of its steps is scored."""
    if stream.mask is not None and not np.any(stream.mask):
        raise Error("nothing is scored: the mask of the training part is False everywhere")
    num_steps = setup.sampler.num_steps
    plan = draw_plan(setup.sampler, stream.bounds, setup.seed, 0)
    if not _scored_windows(problem, stream, plan, num_steps).any():
        raise Error(
            f"nothing is scored: the first {problem.warmup} outputs after a reset are the warm-up of the model, "
            f"and no window of num_steps = {num_steps} is longer\n"
            "Use longer windows (--sampler.num-steps), or a model with less warm-up, such as fewer --model.lags"
        )
    return plan


def _scored_windows(problem: Problem, stream: Stream, plan: Plan, num_steps: int) -> np.ndarray:
    """The windows of a plan that have a scored step, bool[N, B]."""
    if problem.warmup:
        plan = past_warmup(plan, problem.warmup, num_steps)
    first, last = np.moveaxis(np.asarray(plan.scored), -1, 0)
    if stream.mask is None:
        return first < last
    before = np.pad(np.cumsum(np.asarray(stream.mask, np.int64)), (1, 0))
    return before[plan.starts + last] > before[plan.starts + np.minimum(first, last)]


def _num_updates(setup: TrainingSetup, stream: Stream, plan: Plan) -> int:
    """The number of updates of the whole training, on which schedules depend, from the plan of the first epoch."""
    of_epoch = (len(shard_edges(stream.bounds)) - 1) * len(plan.starts)
    if setup.epochs * of_epoch >= 2**31:
        raise Error(
            f"epochs = {setup.epochs} of {of_epoch:,} updates are {setup.epochs * of_epoch:,} updates; training "
            "counts them below 2^31"
        )
    return setup.epochs * of_epoch


def _program(
    problem: Problem, setup: TrainingSetup, num_updates: int, params: Params
) -> tuple[Program, dict[str, jax.Array]]:
    """The program of all epochs, and the numbers of the optimizer that are its arguments.

    Args:
        problem: the problem to train.
        setup: how it is trained.
        num_updates: the number of updates of the whole training.
        params: the parameters, or their shapes and dtypes.
    """
    optimizer: Any = setup.optimizer
    numbers: dict[str, float | int] = {}
    if isinstance(optimizer, Optimizer):
        numbers = numbers_of(optimizer, num_updates, params)
        optimizer = Recipe.of(optimizer, num_updates, numbers)
    program = Program(
        problem=problem,
        gradient=setup.gradient,
        optimizer=optimizer,
        num_steps=setup.sampler.num_steps,
        mesh=make_mesh(setup.sampler.batch_size, setup.devices),
        identity=None if problem.is_value else object(),
    )
    return program, {name: jnp.asarray(value, type(value)) for name, value in numbers.items()}


class InitialState:
    """The state before the first update.

    Args:
        problem: the problem to train.
        setup: how it is trained.
        num_updates: the number of updates of the whole training, on which schedules depend.
        params: the parameters; None: the initial ones of the model.

    Attributes:
        shapes: its shapes and dtypes.
    """

    def __init__(self, problem: Problem, setup: TrainingSetup, num_updates: int, params: Params | None = None):
        if params is not None:
            check_params(params)
        elif not isinstance(problem, ModelProblem):
            raise Error("a problem without a model has no initial parameters: pass params=")
        self._setup, self._arguments = setup, (jax.random.key(setup.seed), params)
        # One compiled program, which the cache can keep: a program for each operation would take a second of a short
        # run.
        self._begin = jit_of(begin, problem, setup.gradient, setup.sampler.batch_size, brief=True)
        self._compiling: Future | None = None
        state = jax.eval_shape(self._begin, *self._arguments)
        _check_memory(state, problem, setup)
        self._tx: Any = setup.optimizer
        if isinstance(setup.optimizer, Optimizer):
            self._tx = build(setup.optimizer, num_updates)
            check_update(setup.optimizer, self._tx, state.params)
        self.shapes = state._replace(opt_state=jax.eval_shape(self._tx.init, state.params))

    def compile(self) -> None:
        """Begins to compile its program in a thread."""
        self._compiling = _COMPILER.submit(self._begin.lower(*self._arguments).compile)

    def compute(self) -> TrainState:
        """Its values."""
        if self._compiling is not None:
            self._compiling.result()  # so that it is not compiled twice
        state = self._begin(*self._arguments)
        check_params(state.params)
        self._setup.gradient.check_values(state.memory, self._setup.sampler.num_steps)
        return state._replace(opt_state=self._tx.init(state.params))


def _check_memory(state: TrainState, problem: Problem, setup: TrainingSetup) -> None:
    """Raises an `Error` if a CPU has less memory than the state before update 0 takes, without the optimizer's."""
    if jax.default_backend() != "cpu":
        return
    of = describe(problem.model) if isinstance(problem, ModelProblem) else type(problem).__name__
    parts = {"parameters": state.params, "state": state.carry, "memory of the strategy": state.memory}
    sizes = {
        name: sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(part))
        for name, part in parts.items()
    }
    largest = max(sizes, key=sizes.__getitem__)
    check_memory(
        f"parameters and state of {of} with gradient {describe(setup.gradient)}",
        sum(sizes.values()),
        f"Most of it is for the {largest}: make the model or the batch smaller, or choose another strategy",
    )


def begin(problem: Any, gradient: Gradient, num_rows: int, key: jax.Array, params: Params | None) -> TrainState:
    """The state before the first update, without that of the optimizer.

    Args:
        problem: the problem to train.
        gradient: the gradient strategy.
        num_rows: B.
        key: the root of all randomness.
        params: the parameters; None: the initial ones of the model.
    """
    init_key, carry_key, key = jax.random.split(key, 3)
    params = problem.init(init_key) if params is None else params
    row_keys = jax.vmap(functools.partial(jax.random.fold_in, carry_key))(jnp.arange(num_rows))
    carry = jax.vmap(problem.init_state, (None, 0))(params, row_keys)
    memory = init_memory(gradient, problem, params, carry, num_rows)
    return TrainState(params, None, carry, memory, key, jnp.zeros((), jnp.int32))


def _diverged(state: TrainState, progress: Progress, chunk: Chunk) -> Diverged:
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


def _stack[T](trees: Sequence[T]) -> T:
    """Stacks trees of equal structure: the leaves have a new leading axis."""
    return jax.tree.map(
        lambda *leaves: np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves), *trees
    )

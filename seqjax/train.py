"""Training: a generator over epochs, each of which is one compiled, donated call with the data on the device."""

import functools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.contracts import Optimizer, Params, Sampler, Stream
from seqjax.data import check_plan, check_stream, past_context
from seqjax.devices import make_mesh
from seqjax.epoch import Static, TrainState, build_optimizer, compiled_epoch, place
from seqjax.errors import Error
from seqjax.gradient import Gradient, init_memory
from seqjax.problem import Problem

CHUNK_STEPS = 2**18
"""Time steps, over all rows, after which an epoch may be interrupted and its state saved."""


class Diverged(Error):  # noqa: N818
    """A loss or gradient was not finite; `state` is the last good one, before that update; `run`, if any, has it."""

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
) -> Iterator[tuple[TrainState, dict[str, Any]]]:
    """Trains; yields the state and a row of metrics after each epoch.

    A row has epoch, update, tokens and seconds (both since the call, compiling apart), compile_seconds (of this epoch),
    train_loss, grad_norm (mean, before clipping), learning_rate and tokens_per_second. The next epoch reuses the
    buffers of a yielded state: copy what is to be kept.

    Args:
        problem: what is trained.
        stream: what is sampled.
        sampler: which windows make an epoch.
        gradient: how the loss is differentiated.
        optimizer: an optimizer plugin or any optax transformation.
        epochs: how many, counted from update 0.
        seed: of the parameters, the sampler and the strategy.
        params: initial parameters; None: the model's. Required where the problem has no model.
        state: where to go on, as yielded by an earlier call with the same other arguments.
        devices: how many to shard the rows over; None: all, or the most that divide the batch.

    Raises:
        Diverged: a loss or gradient is not finite.
    """
    options = (sampler, gradient, optimizer, epochs, seed, params, state, devices)
    chunks = train_in_chunks(problem, stream, *options)
    return ((new, metrics_row(new, progress)) for new, progress in chunks if progress.done)


class Progress(NamedTuple):
    """How far training has come.

    Args:
        epoch: which one is under way, counted from 0.
        done: whether it is complete.
        updates: `loss`, `tokens` and `grad_norm` of its updates so far, float64[n] each.
        compile_seconds: that compiling took in this epoch.
        epoch_seconds: that its training took so far.
        tokens: scored since update 0, before this epoch.
        seconds: that training took since update 0, before this epoch, without compiling.
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
        """How many epochs are complete."""
        return self.epoch + self.done if self.updates is not None else 0

    def next_epoch(self, epoch: int) -> "Progress":
        """At the start of `epoch`."""
        tokens = 0 if self.updates is None else int(self.updates["tokens"].sum())
        return Progress(epoch, tokens=self.tokens + tokens, seconds=self.seconds + self.epoch_seconds)


def train_in_chunks(
    problem: Problem,
    stream: Stream,
    sampler: Sampler,
    gradient: Gradient,
    optimizer: Optimizer | optax.GradientTransformation,
    epochs: int,
    seed: int = 0,
    params: Params | None = None,
    state: TrainState | None = None,
    devices: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[TrainState, Progress]]:
    """Trains, and yields after every chunk of an epoch: all of a short one, `CHUNK_STEPS` of a long one.

    Arguments as for `training`; `state` and `progress` go on from what was yielded after a chunk, to the same bits.
    """
    stream = check_stream(stream)
    options = (sampler, gradient, optimizer, epochs, seed, params, state, devices)
    state, on_device, plan, static = set_up(problem, stream, *options)
    compiled_epoch.eval_shape(state, on_device, plan, static)  # whatever is wrong is found here, not in the loop
    return _train(state, on_device, sampler, stream.bounds, epochs, seed, static, progress or Progress())


def check_training(problem, stream, sampler, gradient, optimizer, epochs, seed, devices):
    """Finds whatever cannot be trained, without a state or a compilation; arguments as for `training`."""
    plan, static = _first_plan(problem, stream, sampler, gradient, optimizer, epochs, seed, devices)
    jax.eval_shape(lambda: compiled_epoch(*_placed(stream, plan, static, seed)))


def _train(state, stream, sampler, bounds, epochs, seed, static, progress):
    """What `train_in_chunks` yields."""
    size = max(1, CHUNK_STEPS // (sampler.batch_size * sampler.num_steps))
    done, first = int(state.update), 0
    for epoch in range(epochs):
        plan = check_plan(sampler.plan(bounds, epoch_rng(seed, epoch)), sampler, bounds[-1])
        if static.problem.context:  # whose steps a chunk's own plan does not show where the row was fresh before it
            plan = past_context(plan, static.problem.context, sampler.num_steps)
        last = first + len(plan.starts)
        if progress.done:
            progress = progress.next_epoch(epoch)
        while done < last:
            stop = min(last, first + (done - first) // size * size + size)
            chunk = jax.tree.map(lambda a, rows=slice(done - first, stop - first): a[rows], plan)
            args = (state, stream, place(chunk, static.mesh), static)
            state, updates, seconds = timed_call(compiled_epoch, args)
            progress = add_updates(progress, updates, seconds)
            if int(state.update) != stop:
                raise diverged(state, progress, stop)
            done = stop
            progress = progress._replace(done=done == last)
            yield state, progress
        first = last


def timed_call(compiled: Any, args: tuple) -> tuple[TrainState, dict[str, np.ndarray], tuple[float, float]]:
    """The state and the updates, float64, that a jitted function gives; the seconds of compiling, and of the rest."""
    clock = [time.perf_counter()]
    compiled.lower(*args).compile()
    clock.append(time.perf_counter())
    state, updates = compiled(*args)
    updates = jax.device_get(updates)  # hears Ctrl-C while it waits, as np.asarray does not
    clock.append(time.perf_counter())
    updates = {name: np.asarray(values, np.float64) for name, values in updates.items()}
    return state, updates, (clock[1] - clock[0], clock[2] - clock[1])


def add_updates(progress: Progress, updates: dict[str, np.ndarray], seconds: Sequence[float]) -> Progress:
    """The progress after more updates, which took these seconds to compile and to make."""
    if progress.updates is not None:
        updates = {name: np.concatenate([progress.updates[name], values]) for name, values in updates.items()}
    return progress._replace(
        done=False,
        updates=updates,
        compile_seconds=progress.compile_seconds + seconds[0],
        epoch_seconds=progress.epoch_seconds + seconds[1],
    )


def metrics_row(state: TrainState, progress: Progress) -> dict[str, Any]:
    """The row of an epoch that is done."""
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
    }


def set_up(problem, stream, sampler, gradient, optimizer, epochs, seed=0, params=None, state=None, devices=None):
    """What `training` starts from: the arguments of `compiled_epoch`, on the devices, with the first epoch's plan."""
    plan, static = _first_plan(problem, stream, sampler, gradient, optimizer, epochs, seed, devices)
    return _placed(stream, plan, static, seed, params, state)


def _first_plan(problem, stream, sampler, gradient, optimizer, epochs, seed, devices):
    """The plan of the first epoch, and what its compilation is for; an error unless some step counts."""
    if stream.mask is not None and not np.any(stream.mask):
        raise Error("nothing is scored: the mask of the training part is False throughout")
    mesh = make_mesh(sampler.batch_size, devices)
    plan = check_plan(sampler.plan(stream.bounds, epoch_rng(seed, 0)), sampler, stream.bounds[-1])
    if not _scored(problem, stream, plan, sampler.num_steps).any():
        raise Error(
            f"nothing is scored: the first {problem.context} outputs after a fresh state do not count (the context of "
            f"a model), and no window of num_steps = {sampler.num_steps} reaches further\n"
            "Take longer windows (--sampler.num-steps), or a model of less context, such as fewer --model.lags"
        )
    return plan, Static(problem, gradient, optimizer, epochs * len(plan.starts), sampler.num_steps, mesh)


def _scored(problem, stream, plan, num_steps):
    """Which windows of a plan have a step that counts, bool[N, B]."""
    if problem.context:
        plan = past_context(plan, problem.context, num_steps)
    first, last = np.moveaxis(np.asarray(plan.scored), -1, 0)
    if stream.mask is None:
        return first < last
    before = np.pad(np.cumsum(np.asarray(stream.mask, np.int64)), (1, 0))
    return before[plan.starts + last] > before[plan.starts + np.minimum(first, last)]


def _placed(stream, plan, static, seed, params=None, state=None):
    if state is None:
        num_rows = plan.starts.shape[1]
        state = init_train_state(
            static.problem, static.gradient, static.optimizer, static.num_updates, num_rows, seed, params
        )
    state = jax.tree.map(jnp.copy, state)  # it will be donated, and the caller's own must live on
    return place(state, static.mesh), place(stream._replace(bounds=None), static.mesh), place(plan, static.mesh), static


def init_train_state(problem, gradient, optimizer, num_updates, num_rows, seed=0, params=None):
    """The state before update 0."""
    init_key, carry_key, key = jax.random.split(jax.random.key(seed), 3)
    if params is None:
        if problem.model is None or problem.spec is None:
            raise Error("a problem without a model has no initial parameters: pass params=")
        params = problem.model.init(init_key, problem.spec)
    if problem.init_state is None:
        raise Error("training starts rows afresh: give the problem its init_state, Problem(step, init_state)")
    row_keys = jax.vmap(functools.partial(jax.random.fold_in, carry_key))(jnp.arange(num_rows))
    carry = jax.vmap(problem.init_state, (None, 0))(params, row_keys)
    memory = init_memory(gradient, problem, params, carry, num_rows)
    tx = build_optimizer(optimizer, num_updates)
    return TrainState(params, tx.init(params), carry, memory, key, jnp.zeros((), jnp.int32))


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """What an epoch's plan is drawn from: a function of seed and epoch alone, so that any epoch can be redone."""
    return np.random.default_rng((seed, epoch))


def learning_rate(opt_state: Any) -> float:
    """The one that `optax.inject_hyperparams` keeps, if it is there; a schedule keeps its own state beside it."""
    found = [
        rate for _, rate in optax.tree.get_all_with_path(opt_state, "learning_rate") if isinstance(rate, jax.Array)
    ]
    return float(found[0]) if found else math.nan


def diverged(state: TrainState, progress: Progress, stop: int) -> Diverged:
    """What to raise where training was to come to update `stop`, and did not."""
    assert progress.updates is not None
    loss, norm = (progress.updates[name][int(state.update) - stop] for name in ("loss", "grad_norm"))
    return Diverged(
        f"diverged at update {int(state.update) + 1} (epoch {progress.epoch + 1}): loss {loss:g}, "
        f"gradient norm {norm:g}; the state before it is kept\n"
        f"Try a smaller learning rate (it was {learning_rate(state.opt_state):g}), "
        "or clip the gradient, such as --optimizer.clip-norm 1",
        state,
    )

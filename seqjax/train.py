"""Training: a generator over epochs, each of which is one compiled, donated call with the data on the device."""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from seqjax.contracts import Optimizer, Params, Plan, Sampler, Stream
from seqjax.data import scored_steps, window
from seqjax.devices import ROWS, make_mesh
from seqjax.errors import Error
from seqjax.gradient import Batch, Gradient, Memory, init_memory
from seqjax.problem import Problem


class TrainState(NamedTuple):
    """All that training carries from update to update.

    Args:
        params: the parameters.
        opt_state: the optimizer's state.
        carry: the recurrent state, leaves [B, ...].
        memory: the gradient strategy's memory.
        key: the root of all randomness; update n draws from `fold_in(key, n)`.
        update: int32[], how many updates were made.
    """

    params: Any
    opt_state: Any
    carry: Any
    memory: Any
    key: Any
    update: Any


class Diverged(Error):  # noqa: N818
    """A loss or gradient was not finite; `state` is the last good one, before that update."""

    def __init__(self, message: str, state: TrainState):
        super().__init__(message, exit_code=3)
        self.state = state


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

    A row has epoch, update, tokens and seconds (both since the call, compiling apart), compile_seconds (of
    this epoch), train_loss, grad_norm (mean, before clipping), learning_rate and tokens_per_second. The next
    epoch reuses the buffers of a yielded state: copy what is to be kept.

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
    stream = stream._replace(bounds=np.asarray(stream.bounds, np.int64))
    options = (sampler, gradient, optimizer, epochs, seed, params, state, devices)
    state, on_device, static = _set_up(problem, stream, *options)
    tokens, seconds = 0, 0.0
    for epoch, last, plan in _epochs_left(sampler, stream.bounds, epochs, seed, int(state.update)):
        args = (state, on_device, _to_device(plan, static["mesh"]))
        clock = [time.perf_counter()]
        _epoch.lower(*args, **static).compile()
        clock.append(time.perf_counter())
        state, updates = _epoch(*args, **static)
        updates = {name: np.asarray(values, np.float64) for name, values in updates.items()}
        clock.append(time.perf_counter())
        if int(state.update) != last:
            raise _diverged(state, updates, last, epoch)
        tokens += int(updates["tokens"].sum())
        seconds += clock[2] - clock[1]
        yield (
            state,
            {
                "epoch": epoch + 1,
                "update": last,
                "tokens": tokens,
                "seconds": seconds,
                "compile_seconds": clock[1] - clock[0],
                "train_loss": float((updates["loss"] * updates["tokens"]).sum() / max(updates["tokens"].sum(), 1)),
                "grad_norm": float(updates["grad_norm"].mean()),
                "learning_rate": _learning_rate(state.opt_state),
                "tokens_per_second": float(updates["tokens"].sum() / (clock[2] - clock[1])),
            },
        )


def run_epoch(
    problem: Problem,
    gradient: Gradient,
    tx: optax.GradientTransformation,
    state: TrainState,
    stream: Stream,
    plan: Plan,
    num_steps: int | None = None,
    axis: str | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """One epoch: a scan over the plan's batches. Pure and not jitted, so that it can be vmapped over seeds.

    From the first update on whose loss or gradient norm is not finite the state stays as it was before.

    Args:
        problem: what is trained.
        gradient: how it is differentiated.
        tx: the optax transformation.
        state: where to start.
        stream: the data, on the device.
        plan: the windows of the epoch, N batches of B rows; B those of this device.
        num_steps: T; None: the longest scored window of the plan, which then must not be traced.
        axis: name of the mapped axis over which rows are sharded, if any.

    Returns:
        The state after the epoch, and `loss`, `tokens` and `grad_norm` (before clipping), f[N] each.
    """
    num_steps = int(np.max(plan.scored)) if num_steps is None else num_steps
    num_rows = plan.starts.shape[1]
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    if axis is not None:
        rows += num_rows * jax.lax.axis_index(axis)

    def over_devices(collective, tree):
        return tree if axis is None else collective(tree, axis)

    def update(carry, batch_plan):
        state, age, good = carry
        starts, scored, fresh = batch_plan
        age = jnp.where(fresh, 0, age)
        counts_TB = scored_steps(stream, starts, scored, age, problem.context, num_steps)
        tokens = over_devices(jax.lax.psum, counts_TB.sum())
        weights_TB = jnp.where(counts_TB, 1 / jnp.maximum(tokens, 1), 0.0)
        batch = Batch(window(stream, starts, num_steps), weights_TB, fresh, rows)
        key = jax.random.fold_in(state.key, state.update)
        estimate = gradient(problem, state.params, state.carry, state.memory, batch, key)
        loss, grads = over_devices(jax.lax.psum, (estimate.loss, estimate.grads))
        memory = estimate.memory._replace(shared=over_devices(jax.lax.pmean, estimate.memory.shared))
        grad_norm = optax.tree.norm(grads)
        good &= jnp.isfinite(loss) & jnp.isfinite(grad_norm)

        def apply(state):
            with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic is not strict
                updates, opt_state = tx.update(grads, state.opt_state, state.params)
                params = optax.apply_updates(state.params, updates)
            return TrainState(params, opt_state, estimate.state, memory, state.key, state.update + 1)

        state = jax.lax.cond(good, apply, lambda state: state, state)
        return (state, age + num_steps, good), {"loss": loss, "tokens": tokens, "grad_norm": grad_norm}

    start = (state, jnp.zeros(num_rows, jnp.int32), jnp.array(True))
    (state, _, _), updates = jax.lax.scan(update, start, tuple(plan))
    return state, updates


def init_train_state(
    problem: Problem,
    gradient: Gradient,
    optimizer: Optimizer | optax.GradientTransformation,
    num_updates: int,
    num_rows: int,
    seed: int = 0,
    params: Params | None = None,
) -> TrainState:
    """The state before update 0.

    Raises:
        Error: the problem has no model and `params` are missing, or no `init_state`.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    if params is None:
        if problem.model is None or problem.spec is None:
            raise Error("a problem without a model has no initial parameters: pass params=")
        params = problem.model.init(init_key, problem.spec)
    if problem.init_state is None:
        raise Error("training starts rows afresh: give the problem its init_state, Problem(step, init_state)")
    row_keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num_rows))
    carry = jax.vmap(problem.init_state, (None, 0))(params, row_keys)
    memory = init_memory(gradient, problem, params, carry, num_rows)
    tx = build_optimizer(optimizer, num_updates)
    return TrainState(params, tx.init(params), carry, memory, key, jnp.zeros((), jnp.int32))


def build_optimizer(optimizer: Optimizer | optax.GradientTransformation, num_updates: int) -> Any:
    """The optax transformation of a plugin; any other is one already."""
    return optimizer.build(num_updates) if isinstance(optimizer, Optimizer) else optimizer


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """What an epoch's plan is drawn from: a function of seed and epoch alone, so that any epoch can be redone."""
    return np.random.default_rng((seed, epoch))


def epoch_memory(problem: Problem, stream: Stream, sampler: Sampler, *options: Any) -> Any:
    """What a compiled epoch takes on one device: the `memory_analysis()` of `jax.stages.Compiled`.

    `options` are those of `training` after the sampler, in its order, without `params` and `state`.
    """
    gradient, optimizer, epochs, seed, devices = options
    state, on_device, static = _set_up(problem, stream, sampler, gradient, optimizer, epochs, seed, None, None, devices)
    plan = _to_device(sampler.plan(stream.bounds, epoch_rng(seed, 0)), static["mesh"])
    return _epoch.lower(state, on_device, plan, **static).compile().memory_analysis()


def _set_up(problem, stream, sampler, gradient, optimizer, epochs, seed, params, state, devices):
    """State and data on the devices, and the static arguments of `_epoch`."""
    mesh = make_mesh(sampler.batch_size, devices)
    num_updates = epochs * len(sampler.plan(stream.bounds, epoch_rng(seed, 0)).starts)
    if state is None:
        state = init_train_state(problem, gradient, optimizer, num_updates, sampler.batch_size, seed, params)
    state = jax.tree.map(jnp.copy, state)  # it will be donated, and the caller's own must live on
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), _SPECS)
    on_device = jax.device_put(stream._replace(bounds=None), NamedSharding(mesh, PartitionSpec()))
    static = {
        "problem": problem,
        "gradient": gradient,
        "optimizer": optimizer,
        "num_updates": num_updates,
        "num_steps": sampler.num_steps,
        "mesh": mesh,
    }
    return jax.device_put(state, shardings), on_device, static


def _epochs_left(sampler, bounds, epochs, seed, done):
    """(epoch, its last update, the part of its plan that is not done yet) of each epoch that has any."""
    last = 0
    for epoch in range(epochs):
        plan = sampler.plan(bounds, epoch_rng(seed, epoch))
        skip = max(0, done - last)
        last += len(plan.starts)
        if done < last:
            yield epoch, last, jax.tree.map(lambda a, skip=skip: a[skip:], plan)


@functools.partial(
    jax.jit,
    static_argnames=("problem", "gradient", "optimizer", "num_updates", "num_steps", "mesh"),
    donate_argnames="state",
)
def _epoch(state, stream, plan, *, problem, gradient, optimizer, num_updates, num_steps, mesh):
    """`run_epoch` with the rows sharded over the mesh."""
    tx = build_optimizer(optimizer, num_updates)

    def local(state, stream, plan):
        return run_epoch(problem, gradient, tx, state, stream, plan, num_steps, ROWS)

    everywhere, by_row = PartitionSpec(), PartitionSpec(None, ROWS)
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(_SPECS, everywhere, by_row), out_specs=(_SPECS, everywhere), check_vma=False
    )
    return sharded(state, stream, plan)


_SPECS = TrainState(
    params=PartitionSpec(),
    opt_state=PartitionSpec(),
    carry=PartitionSpec(ROWS),
    memory=Memory(shared=PartitionSpec(), rows=PartitionSpec(ROWS)),
    key=PartitionSpec(),
    update=PartitionSpec(),
)


def _to_device(plan, mesh):
    return jax.device_put(plan, NamedSharding(mesh, PartitionSpec(None, ROWS)))


def _learning_rate(opt_state):
    rate = optax.tree.get(opt_state, "learning_rate")
    return math.nan if rate is None else float(rate)


def _diverged(state, updates, last, epoch):
    at = int(state.update)
    loss, norm = (updates[name][at - last] for name in ("loss", "grad_norm"))
    return Diverged(
        f"diverged at update {at + 1} (epoch {epoch + 1}): loss {loss:g}, gradient norm {norm:g}; "
        f"the state before it is kept\nTry a smaller learning rate (it was {_learning_rate(state.opt_state):g}), "
        "or clip the gradient, such as --optimizer.clip-norm 1",
        state,
    )

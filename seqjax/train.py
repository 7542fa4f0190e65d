"""Training: a generator over epochs, each of which is one compiled, donated call with the data on the device."""

import functools
import math
import time
from collections.abc import Iterator
from typing import Any

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
    stream = check_stream(stream)
    options = (sampler, gradient, optimizer, epochs, seed, params, state, devices)
    state, on_device, plan, static = set_up(problem, stream, *options)
    compiled_epoch.eval_shape(state, on_device, plan, static)  # whatever is wrong is found here, not in the loop
    plans = _epochs_left(sampler, stream.bounds, epochs, seed, int(state.update), problem.context)
    return _train(state, on_device, plans, static)


def _train(state, on_device, plans, static):
    """The rows of `training`, epoch by epoch."""
    tokens, seconds = 0, 0.0
    for epoch, last, plan in plans:
        args = (state, on_device, place(plan, static.mesh), static)
        clock = [time.perf_counter()]
        compiled_epoch.lower(*args).compile()
        clock.append(time.perf_counter())
        state, updates = compiled_epoch(*args)
        updates = {name: np.asarray(values, np.float64) for name, values in updates.items()}
        clock.append(time.perf_counter())
        if int(state.update) != last:
            raise _diverged(state, updates, last, epoch)
        counts, taken = updates["tokens"], clock[2] - clock[1]
        tokens += int(counts.sum())
        seconds += taken
        row = {
            "epoch": epoch + 1,
            "update": last,
            "tokens": tokens,
            "seconds": seconds,
            "compile_seconds": clock[1] - clock[0],
            "train_loss": float((updates["loss"] * counts).sum() / counts.sum()) if counts.any() else math.nan,
            "grad_norm": float(updates["grad_norm"].mean()),
            "learning_rate": _learning_rate(state.opt_state),
            "tokens_per_second": float(counts.sum() / taken),
        }
        yield state, row


def set_up(problem, stream, sampler, gradient, optimizer, epochs, seed=0, params=None, state=None, devices=None):
    """What `training` starts from: the arguments of `compiled_epoch`, on the devices, with the first epoch's plan."""
    mesh = make_mesh(sampler.batch_size, devices)
    plan = check_plan(sampler.plan(stream.bounds, epoch_rng(seed, 0)), sampler, stream.bounds[-1])
    static = Static(problem, gradient, optimizer, epochs * len(plan.starts), sampler.num_steps, mesh)
    if state is None:
        state = init_train_state(problem, gradient, optimizer, static.num_updates, sampler.batch_size, seed, params)
    state = jax.tree.map(jnp.copy, state)  # it will be donated, and the caller's own must live on
    return place(state, mesh), place(stream._replace(bounds=None), mesh), place(plan, mesh), static


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


def _epochs_left(sampler, bounds, epochs, seed, done, context):
    """(epoch, its last update, the part of its plan that is not done yet) of each epoch that has any."""
    last = 0
    for epoch in range(epochs):
        plan = check_plan(sampler.plan(bounds, epoch_rng(seed, epoch)), sampler, bounds[-1])
        skip = max(0, done - last)
        if 0 < skip < len(plan.starts):
            plan = past_context(plan, context, sampler.num_steps)  # what is skipped says where its rows were fresh
        last += len(plan.starts)
        if done < last:
            yield epoch, last, jax.tree.map(lambda a, skip=skip: a[skip:], plan)


def _learning_rate(opt_state):
    """The one that `optax.inject_hyperparams` keeps, if it is there; a schedule keeps its own state beside it."""
    found = [
        rate for _, rate in optax.tree.get_all_with_path(opt_state, "learning_rate") if isinstance(rate, jax.Array)
    ]
    return float(found[0]) if found else math.nan


def _diverged(state, updates, last, epoch):
    at = int(state.update)
    loss, norm = (updates[name][at - last] for name in ("loss", "grad_norm"))
    return Diverged(
        f"diverged at update {at + 1} (epoch {epoch + 1}): loss {loss:g}, gradient norm {norm:g}; "
        f"the state before it is kept\nTry a smaller learning rate (it was {_learning_rate(state.opt_state):g}), "
        "or clip the gradient, such as --optimizer.clip-norm 1",
        state,
    )

"""One epoch: a pure loop over its batches, compiled with the rows divided among devices, or for runs side by side."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax.data.sampler import Plan
from seqjax.data.stream import Stream
from seqjax.data.windows import count_scored, make_batch, past_warmup
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.contract.window import Batch, Memory
from seqjax.training.devices import ROWS
from seqjax.training.optimizer import Builder
from seqjax.training.processes import place


class TrainState(NamedTuple):
    """The state that training carries from update to update.

    Args:
        params: the parameters.
        opt_state: the optimizer's state.
        carry: the recurrent state, leaves [B, ...].
        memory: the gradient strategy's memory.
        key: the root of all randomness; update n draws from `fold_in(key, n)`.
        update: int32[], the number of updates made.
    """

    params: Any
    opt_state: Any
    carry: Any
    memory: Any
    key: Any
    update: Any


def update_state(
    problem: Problem,
    gradient: Gradient,
    tx: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    axis: str | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """One update of the parameters. Pure and not jitted.

    Args:
        problem: the problem to train.
        gradient: the gradient strategy.
        tx: the optax transformation.
        state: the state before the update.
        batch: the window.
        axis: name of the mapped axis over which rows are sharded, if any.

    Returns:
        The state after the update, and `loss` and `grad_norm` (before clipping), float[].
    """
    key = jax.random.fold_in(state.key, state.update)
    estimate = gradient(problem, state.params, state.carry, state.memory, batch, key)
    loss, grads = _over_devices(jax.lax.psum, (estimate.loss, estimate.grads), axis)
    shared = _over_devices(jax.lax.pmean, estimate.memory.shared, axis)
    shared = jax.tree.map(lambda mean, a: mean.astype(a.dtype), shared, estimate.memory.shared)
    params, opt_state = apply_gradient(tx, grads, state.opt_state, state.params)
    memory = estimate.memory._replace(shared=shared)
    new = TrainState(params, opt_state, estimate.state, memory, state.key, state.update + 1)
    return new, {"loss": loss, "grad_norm": optax.tree.norm(grads)}


def apply_gradient(
    tx: optax.GradientTransformation, grads: Params, opt_state: Any, params: Params, **extra: Any
) -> tuple[Params, Any]:
    """The parameters and the optimizer's state after an update; `extra` are arguments of the optimizer."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        updates, opt_state = optax.with_extra_args_support(tx).update(grads, opt_state, params, **extra)
        return optax.apply_updates(params, updates), opt_state


def _over_devices(collective, tree, axis):
    return tree if axis is None else collective(tree, axis)


def run_epoch(
    problem: Problem,
    gradient: Gradient,
    tx: optax.GradientTransformation,
    state: TrainState,
    stream: Stream,
    plan: Plan,
    num_steps: int | None = None,
    axis: str | None = None,
    num_batches: Any = None,
) -> tuple[TrainState, dict[str, Any]]:
    """One epoch: a loop over the plan's batches. Pure and not jitted, so that it can be vmapped over seeds.

    If the loss, gradient or parameters of an update are not finite, this update and all later ones leave the state
    unchanged.

    Args:
        problem: the problem to train.
        gradient: the gradient strategy.
        tx: the optax transformation.
        state: the state to start from.
        stream: the data, on the device.
        plan: the windows of the epoch, N batches of B rows, where B counts the rows of this device.
        num_steps: T; None: the longest scored window of the plan, which must then be concrete.
        axis: name of the mapped axis over which rows are sharded, if any.
        num_batches: int32[], the number of batches that are computed, the first ones of the plan; None: all of them.

    Returns:
        The state after the epoch, and `loss`, `tokens` and `grad_norm` (before clipping), f[N] each; those of batches
        that are not computed are 0.
    """
    num_steps = int(np.max(plan.scored)) if num_steps is None else num_steps
    num_rows = plan.starts.shape[1]
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    if axis is not None:
        rows += num_rows * jax.lax.axis_index(axis)

    def update(state, good, plan, tokens):
        batch, _ = make_batch(stream, plan, num_steps, rows, tokens)
        new, results = update_state(problem, gradient, tx, state, batch, axis)
        good &= jnp.isfinite(results["loss"]) & jnp.isfinite(results["grad_norm"])
        good &= jnp.isfinite(optax.tree.norm(new.params))
        # Not a `cond`, whose predicate the host of a GPU reads, so that the device waits for it at each update.
        state = jax.tree.map(functools.partial(jnp.where, good), new, state)
        return state, good, results | {"tokens": tokens}

    plan = past_warmup(jax.tree.map(jnp.asarray, plan), problem.warmup, num_steps)
    # Counted for all batches at once: a sum over devices in each update would be one more synchronisation.
    counts_N = _over_devices(jax.lax.psum, count_scored(stream, plan, num_steps), axis)
    update = jax.jit(update, inline=True)  # so that it is traced once, for its shapes here and for the loop
    start = state, jnp.array(True)
    *_, like = jax.eval_shape(update, *start, *_batch(0, plan, counts_N))
    updates = jax.tree.map(lambda a: jnp.zeros((len(counts_N), *a.shape), a.dtype), like)

    def body(n, carry):
        state, good, updates = carry
        state, good, new = update(state, good, *_batch(n, plan, counts_N))
        return state, good, jax.tree.map(lambda a, value: a.at[n].set(value), updates, new)

    # Not a scan, whose length would be a constant of the program: the last chunk of an epoch is shorter than others.
    stop = len(counts_N) if num_batches is None else num_batches
    state, _, updates = jax.lax.fori_loop(0, stop, body, (*start, updates))
    return state, updates


def _batch(n: Any, plan: Plan, counts_N: jax.Array) -> Any:
    """Batch n of a plan, and its number of scored steps."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, n, keepdims=False), (plan, counts_N))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """The static arguments of a compiled epoch; equal programs share one compilation."""

    problem: Problem
    gradient: Gradient
    optimizer: Builder | optax.GradientTransformation
    num_steps: int
    mesh: Mesh
    identity: object
    """Keeps two programs from being equal if their problem is not a value (`Problem.is_value`): its step may read a
    global variable that has changed since it was compiled. None: the problem is a value."""

    def run(
        self, state: TrainState, stream: Stream, plan: Plan, num_batches: Any, numbers: Any, axis: str | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        """`run_epoch` of this program; arguments as those of `run_epoch` and as in `EpochArguments`."""
        tx = self.optimizer.build(numbers) if isinstance(self.optimizer, Builder) else self.optimizer
        return run_epoch(self.problem, self.gradient, tx, state, stream, plan, self.num_steps, axis, num_batches)


class EpochArguments(NamedTuple):
    """The arguments of `compiled_epoch` and of `compiled_epochs`.

    Args:
        state: the state before the batches; it is donated.
        stream: the data, without bounds.
        plan: the batches.
        num_batches: int32[], the number of batches that are computed; the others make all chunks equally long.
        numbers: the numbers of the optimizer that are no constants of the program, name -> float[] or int[].
        program: what is compiled.
    """

    state: Any
    stream: Any
    plan: Any
    num_batches: Any
    numbers: Any
    program: Program


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def compiled_epoch(
    state: TrainState, stream: Stream, plan: Plan, num_batches: Any, numbers: dict[str, Any], program: Program
) -> tuple[TrainState, dict[str, Any]]:
    """`run_epoch` with the rows sharded over the program's mesh; `state` is donated."""
    everywhere, by_row = PartitionSpec(), PartitionSpec(None, ROWS)
    sharded = jax.shard_map(
        functools.partial(program.run, axis=ROWS),
        mesh=program.mesh,
        in_specs=(_SPECS, everywhere, by_row, everywhere, everywhere),
        out_specs=(_SPECS, everywhere),
        check_vma=False,
    )
    return sharded(state, stream, plan, num_batches, numbers)


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def compiled_epochs(
    state: TrainState, stream: Stream, plan: Plan, num_batches: Any, numbers: dict[str, Any], program: Program
) -> tuple[TrainState, dict[str, Any]]:
    """`run_epoch` of R runs side by side on one device; `state` is donated.

    Args:
        state: the states of the runs, leaves [R, ...].
        stream: the data, which all runs share.
        plan: the plans of the runs, leaves [R, ...]; all have the same number of batches.
        num_batches: int32[], the number of batches of each run that are computed.
        numbers: the numbers of each run, leaves [R].
        program: the program, which all runs share.
    """
    # `num_batches` is not mapped: the loops of all runs end together.
    run = jax.vmap(program.run, in_axes=(0, None, 0, None, 0))
    return run(state, stream, plan, num_batches, numbers)


_SPECS = TrainState(
    params=PartitionSpec(),
    opt_state=PartitionSpec(),
    carry=PartitionSpec(ROWS),
    memory=Memory(shared=PartitionSpec(), rows=PartitionSpec(ROWS)),
    key=PartitionSpec(),
    update=PartitionSpec(),
)


def to_devices[T](value: T, mesh: Mesh) -> T:
    """A train state, a plan or a stream on the devices of a mesh, as `compiled_epoch` takes them."""
    shardings = _shardings(value, mesh)
    return jax.tree.map(place, value, shardings) if mesh.is_multi_process else jax.device_put(value, shardings)


def shapes_on_devices[T](value: T, mesh: Mesh) -> T:
    """The shapes, dtypes and shardings of what `to_devices` returns, from arrays or from their shapes and dtypes."""
    shapes = jax.eval_shape(lambda value: value, value)
    return jax.tree.map(lambda a, sharding: a.update(sharding=sharding), shapes, _shardings(value, mesh))


def _shardings(value: Any, mesh: Mesh) -> Any:
    """The sharding of each array of a value."""
    specs = {TrainState: _SPECS, Plan: PartitionSpec(None, ROWS)}.get(type(value), PartitionSpec())
    return jax.tree.broadcast(jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs), value)


@jax.jit
def copy_of[T](tree: T) -> T:
    """A copy of arrays, in one compiled call, which takes less time than a call for each leaf."""
    return jax.tree.map(jnp.copy, tree)

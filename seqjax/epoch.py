"""One epoch: a scan over its batches, pure, and compiled with the rows sharded over devices."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqjax.contracts import Optimizer, Plan, Stream
from seqjax.data import past_context, scored_steps, window
from seqjax.devices import ROWS
from seqjax.gradient import Batch, Gradient, Memory
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

    From the first update on whose loss, gradient or parameters are not finite the state stays as it was before.

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

    def update(carry, plan):
        state, good = carry
        counts_TB = scored_steps(stream, plan, num_steps)
        tokens = over_devices(jax.lax.psum, counts_TB.sum())
        weights_TB = jnp.where(counts_TB, 1 / jnp.maximum(tokens, 1), 0.0)
        batch = Batch(window(stream, plan.starts, num_steps), weights_TB, plan.fresh, rows)
        key = jax.random.fold_in(state.key, state.update)
        estimate = gradient(problem, state.params, state.carry, state.memory, batch, key)
        loss, grads = over_devices(jax.lax.psum, (estimate.loss, estimate.grads))
        shared = over_devices(jax.lax.pmean, estimate.memory.shared)
        shared = jax.tree.map(lambda mean, a: mean.astype(a.dtype), shared, estimate.memory.shared)
        with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic is not strict
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        memory = estimate.memory._replace(shared=shared)
        new = TrainState(params, opt_state, estimate.state, memory, state.key, state.update + 1)
        grad_norm = optax.tree.norm(grads)
        good &= jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(optax.tree.norm(params))
        state = jax.lax.cond(good, lambda: new, lambda: state)
        return (state, good), {"loss": loss, "tokens": tokens, "grad_norm": grad_norm}

    plan = past_context(jax.tree.map(jnp.asarray, plan), problem.context, num_steps)
    (state, _), updates = jax.lax.scan(update, (state, jnp.array(True)), plan)
    return state, updates


class Static(NamedTuple):
    """What a compiled epoch is specialised to; equal values share one compilation."""

    problem: Problem
    gradient: Gradient
    optimizer: Optimizer | optax.GradientTransformation
    num_updates: int
    num_steps: int
    mesh: Mesh


@functools.partial(jax.jit, static_argnames="static", donate_argnames="state")
def compiled_epoch(state: TrainState, stream: Stream, plan: Plan, static: Static) -> tuple[TrainState, dict[str, Any]]:
    """`run_epoch` with the rows sharded over the mesh; `state` is donated."""
    problem, gradient, optimizer, num_updates, num_steps, mesh = static
    tx = build_optimizer(optimizer, num_updates)

    def local(state, stream, plan):
        return run_epoch(problem, gradient, tx, state, stream, plan, num_steps, ROWS)

    everywhere, by_row = PartitionSpec(), PartitionSpec(None, ROWS)
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(_SPECS, everywhere, by_row), out_specs=(_SPECS, everywhere), check_vma=False
    )
    return sharded(state, stream, plan)


def build_optimizer(optimizer: Optimizer | optax.GradientTransformation, num_updates: int) -> Any:
    """The optax transformation of a plugin; any other is one already."""
    return optimizer.build(num_updates) if isinstance(optimizer, Optimizer) else optimizer


_SPECS = TrainState(
    params=PartitionSpec(),
    opt_state=PartitionSpec(),
    carry=PartitionSpec(ROWS),
    memory=Memory(shared=PartitionSpec(), rows=PartitionSpec(ROWS)),
    key=PartitionSpec(),
    update=PartitionSpec(),
)


def place(value: Any, mesh: Mesh) -> Any:
    """A train state, a plan or a stream on the devices as `compiled_epoch` takes them."""
    specs = {TrainState: _SPECS, Plan: PartitionSpec(None, ROWS)}.get(type(value), PartitionSpec())
    return jax.device_put(value, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))

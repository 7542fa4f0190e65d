"""Consecutive windows of a run or of a scan, as training would take them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.contracts import Params, State
from seqjax.data import check_plan, past_context, scored_steps, window
from seqjax.errors import Error
from seqjax.gradient import Batch, check_scan
from seqjax.run import Run
from seqjax.train import epoch_rng, init_train_state


class Stretch(NamedTuple):
    """A stretch of N consecutive windows.

    Args:
        state: in which the first one starts, leaves [B, ...].
        batches: one a window, leaves [N, ...]; `fresh` None where no row ever starts afresh.
    """

    state: Any
    batches: Batch


def of_run(run: Run, at: str, params: Params, count: int | None) -> tuple[Params, Stretch]:
    """Parameters, and the first windows of the first epoch."""
    e, problem, stream = run.experiment, run.problem, run.prepared.streams["train"]
    if params is None:
        new = (problem, e.gradient, e.optimizer, 1, e.sampler.batch_size, e.seed)
        params = run.params if at == "end" else init_train_state(*new).params
    elif _shapes(params) != _shapes(jax.eval_shape(lambda: problem.model.init(jax.random.key(0), problem.spec))):
        raise Error("params are not those of the run's model: pass a tree like run.params")
    plan = check_plan(e.sampler.plan(stream.bounds, epoch_rng(e.seed, 0)), e.sampler, stream.bounds[-1])
    count = min(3, len(plan.starts)) if count is None else count
    if count > len(plan.starts):
        raise Error(f"windows = {count} must be from 1 to {len(plan.starts)}, which is an epoch of this run")
    plan = jax.tree.map(lambda a: jnp.asarray(a[:count]), past_context(plan, problem.context, e.sampler.num_steps))
    rows_B = jnp.arange(e.sampler.batch_size, dtype=jnp.int32)

    def batch(plan):
        counts_TB = scored_steps(stream, plan, e.sampler.num_steps)
        weights_TB = jnp.where(counts_TB, 1 / jnp.maximum(counts_TB.sum(), 1), 0.0)
        return Batch(window(stream, plan.starts, e.sampler.num_steps), weights_TB, plan.fresh, rows_B)

    return params, Stretch(jax.vmap(lambda _: problem.init_state(params))(rows_B), jax.vmap(batch)(plan))


def of_scan(params: Params, state: State, xs: Any, weights: Any, count: int) -> tuple[Params, Stretch]:
    """The steps of one batch, cut into windows."""
    if params is None or state is None or xs is None:
        raise Error("measure needs params, state (leaves [B, ...]) and xs (leaves [T, B, ...]) of anything but a run")
    params, state, xs, weights = check_scan(params, state, xs, weights)
    T, B = weights.shape
    if T % count:
        raise Error(f"windows = {count} must divide the {T} steps of xs")
    xs, weights = jax.tree.map(lambda a: a.reshape(count, T // count, *a.shape[1:]), (xs, weights))
    rows = jnp.broadcast_to(jnp.arange(B, dtype=jnp.int32), (count, B))
    return params, Stretch(state, Batch(xs, weights, None, rows))


def _shapes(tree):
    return jax.tree.map(jnp.shape, tree)

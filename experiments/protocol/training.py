"""One run of the referee as one compiled call: a strategy, a learning rate and a seed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from seqjax.gradients import Batch, init_memory, weighted_sum

from .tasks import Feed

BLOCKS, TAIL = 20, 4
"""The losses of a run are averaged in blocks of equally many updates; the last ones are its tail."""


class Trained(NamedTuple):
    """The result of a run.

    Args:
        blocks: the mean loss of each block of updates, float64[BLOCKS].
        params: the parameters after the last update.
    """

    blocks: np.ndarray
    params: Any


def compile_run(problem: Any, gradient: sj.Gradient, feed: Feed) -> Callable[[int, float, Feed], Trained]:
    """A function (seed, learning rate, feed) -> what a run gives.

    The optimizer is Adam on gradients that are clipped to the norm 1. The loss of an update is that before the update.
    It is computed from the problem, as the state is that goes into the next window: what a strategy says of its loss
    and its state is not used.

    Args:
        problem: what is trained.
        gradient: the strategy.
        feed: data of the same shapes as those of all runs.
    """
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    updates, num_rows = feed.reset.shape
    rows = jnp.arange(num_rows, dtype=jnp.int32)

    @jax.jit
    def run(key: jax.Array, rate: Any, feed: Feed) -> Any:
        # Strategies share the initial parameters of a seed, whatever numbers they draw later.
        init_key, draw_key = jax.random.split(key)
        params = problem.init(init_key)
        state = problem.init_rows(params, num_rows)

        def update(carry: Any, inputs: Any) -> Any:
            params, opt_state, state, memory = carry
            t, window = inputs
            batch = Batch(window.xs, window.weights, window.reset, rows)
            estimate = gradient(problem, params, state, memory, batch, jax.random.fold_in(draw_key, t))
            start = problem.start(params, state, window.reset)
            state, losses_TB = problem.unroll(params, start, window.xs, scored=window.weights != 0)
            loss = weighted_sum(window.weights, losses_TB)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
                steps, opt_state = adam.update(estimate.grads, opt_state, params)
            params = jax.tree.map(lambda p, step: p - rate * step, params, steps)
            return (params, opt_state, state, estimate.memory), loss

        memory = init_memory(gradient, problem, params, state, num_rows)
        start = (params, adam.init(params), state, memory)
        (params, *_), losses = jax.lax.scan(update, start, (jnp.arange(updates), feed))
        return losses, params

    compiled = run.lower(jax.random.key(0), 0.0, feed).compile()

    def trained(seed: int, rate: float, feed: Feed) -> Trained:
        losses, params = compiled(jax.random.key(seed), rate, feed)
        blocks = np.array_split(np.asarray(losses, np.float64), BLOCKS)
        return Trained(np.array([block.mean() for block in blocks]), params)

    return trained


def tail(blocks: Any) -> Any:
    """The median of the last blocks, float64[...]; inf where a run diverged.

    Args:
        blocks: float64[..., BLOCKS].
    """
    blocks = np.asarray(blocks, np.float64)
    ends = np.median(blocks[..., -TAIL:], -1)
    return np.where(np.isfinite(blocks).all(-1), ends, np.inf)

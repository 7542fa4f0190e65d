"""One run of the referee as one compiled call: a strategy, a learning rate, a clip and a seed."""

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
OPTIMIZERS = {"adam": optax.scale_by_adam, "sgd": optax.identity}
"""What is done with a gradient before it is multiplied by the learning rate."""


class Trained(NamedTuple):
    """The result of a run.

    Args:
        blocks: the mean loss of each block of updates, float64[BLOCKS].
        clipped: the share of the updates whose gradient was clipped.
        params: the parameters after the last update.
    """

    blocks: np.ndarray
    clipped: float
    params: Any


def compile_run(
    problem: Any, gradient: sj.Gradient, feed: Feed, optimizer: str = "adam"
) -> Callable[[int, float, float | None, Feed], Trained]:
    """A function (seed, learning rate, clip, feed) -> what a run gives.

    The norm of a gradient is clipped to the number `clip`; None: it is not clipped. The loss of an update is that
    before the update. It is computed from the problem, as the state is that goes into the next window: what a strategy
    says of its loss and its state is not used.

    One program serves all runs of a strategy, which are calls of it. A program that trains all seeds side by side was
    tried: it takes twice as long to compile, and on a CPU it is not faster for those strategies that take most of the
    time (`rtrl` with 16 units: .26 s a run, and .18 s one by one).

    Args:
        problem: what is trained.
        gradient: the strategy.
        feed: data of the same shapes as those of all runs.
        optimizer: one of `OPTIMIZERS`.
    """
    optim = OPTIMIZERS[optimizer]()
    updates, num_rows = feed.reset.shape
    rows = jnp.arange(num_rows, dtype=jnp.int32)

    @jax.jit
    def run(key: jax.Array, rate: Any, clip: Any, feed: Feed) -> Any:
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
                norm = optax.tree.norm(estimate.grads)
                is_clipped = norm > clip
                grads = jax.tree.map(lambda g: jnp.where(is_clipped, g / norm * clip, g), estimate.grads)
                steps, opt_state = optim.update(grads, opt_state, params)
            params = jax.tree.map(lambda p, step: p - rate * step, params, steps)
            return (params, opt_state, state, estimate.memory), (loss, is_clipped)

        memory = init_memory(gradient, problem, params, state, num_rows)
        start = (params, optim.init(params), state, memory)
        (params, *_), (losses, clipped) = jax.lax.scan(update, start, (jnp.arange(updates), feed))
        return losses, clipped.mean(), params

    compiled = run.lower(jax.random.key(0), 0.0, 0.0, feed).compile()

    def trained(seed: int, rate: float, clip: float | None, feed: Feed) -> Trained:
        losses, clipped, params = compiled(jax.random.key(seed), rate, np.inf if clip is None else clip, feed)
        blocks = np.array_split(np.asarray(losses, np.float64), BLOCKS)
        return Trained(np.array([block.mean() for block in blocks]), float(clipped), params)

    return trained


def tail(blocks: Any, num_blocks: int = BLOCKS) -> Any:
    """The median of the last fifth of the first blocks, float64[...]; inf where a run diverged before their end.

    Args:
        blocks: float64[..., BLOCKS].
        num_blocks: how many blocks have been trained, at least 1.
    """
    trained = np.asarray(blocks, np.float64)[..., :num_blocks]
    ends = np.median(trained[..., -max(1, num_blocks * TAIL // BLOCKS) :], -1)
    return np.where(np.isfinite(trained).all(-1), ends, np.inf)

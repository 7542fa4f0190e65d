"""A strategy called: jitted once for each problem and shape, through three windows."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.base import Batch, Estimate, Memory, init_memory
from seqjax.testing.cases import B, Case

KEY = 17
"""Seed of whatever a check draws."""


class Sums(NamedTuple):
    """What is summed over rows, windows or outcomes; `probability` of the outcomes, 1."""

    loss: Any
    grads: Any
    probability: Any = ()


# Programs so small that compiling them is all their cost, and half of it is optimisation.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


@functools.partial(quick_jit, static_argnums=(0, 1))
def call(strategy, problem, params, state, memory, batch, key):
    """What training calls."""
    return strategy(problem, params, state, memory, batch, key)


@functools.partial(quick_jit, static_argnums=(0, 1))
def initial_memory(strategy, problem, params, state):
    """Memory for B rows that start in `state`."""
    return init_memory(strategy, problem, params, state, B)


def estimates(strategy: Any, c: Case, windows: list[Batch] | None = None) -> list[Estimate]:
    """One for each window, state and memory carried, each with a key of its own."""
    state, memory, found = c.state, initial_memory(strategy, c.problem, c.params, c.state), []
    for i, batch in enumerate(c.windows if windows is None else windows):
        found.append(call(strategy, c.problem, c.params, state, memory, batch, jax.random.key(KEY + i)))
        state, memory = found[-1].state, found[-1].memory
    return found


@functools.partial(quick_jit, static_argnums=(0, 1), static_argnames="room")
def outcome_means(strategy, problem, params, state, memories, batch, *, room):
    """Of ONE row, for each of K = `room` memories: loss and gradient in the mean, sum of probabilities; what is left.

    Leaves of `state` are [...], of `memories` [K, ...], of `batch` those of a batch of one row.

    Returns:
        Their `Sums`, leaves [K, ...]; the probabilities [K, M]; the memories after each outcome, [K, M, ...].
    """
    one_row = functools.partial(jax.tree.map, lambda a: a[None])
    num_steps = batch.weights.shape[0]

    def start(params):
        initial = state if problem.init_state is None else problem.init_state(params)
        return one_row(jax.tree.map(lambda a, b: jnp.where(batch.reset[0], a, b), initial, state))

    def given(memory):
        noise, probability = strategy.outcomes(memory, num_steps)
        probability = jnp.asarray(probability)

        def estimate(noise):
            rows = Memory(memory.shared, one_row(memory.rows))
            return strategy.estimate(problem, params, start, rows, batch, one_row(noise))

        e = jax.vmap(estimate, axis_size=len(probability))(jax.tree.map(jnp.asarray, noise))
        mean = lambda a: jnp.tensordot(probability.astype(a.dtype), a, 1)
        left = Memory(e.memory.shared, jax.tree.map(lambda a: a[:, 0], e.memory.rows))
        return Sums(mean(e.loss), jax.tree.map(mean, e.grads), probability.sum()), probability, left

    return jax.vmap(given, axis_size=room)(memories)


def only(batch: Batch, b: int) -> Batch:
    """The batch of row b alone."""
    xs, weights = jax.tree.map(lambda a: a[:, b : b + 1], (batch.xs, batch.weights))
    return Batch(xs, weights, batch.reset[b : b + 1], batch.rows[b : b + 1])


def row_of(tree: Any, b: Any) -> Any:
    """Row b of leaves [B, ...], or several."""
    return jax.tree.map(lambda a: a[b], tree)


def in_order(c: Case, order: np.ndarray) -> Case:
    """The same rows in another order."""

    def moved(batch):
        xs, weights = jax.tree.map(lambda a: a[:, order], (batch.xs, batch.weights))
        return Batch(xs, weights, batch.reset[order], batch.rows[order])

    return c._replace(state=row_of(c.state, order), windows=[moved(batch) for batch in c.windows])

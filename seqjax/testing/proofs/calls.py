"""Calls of a strategy, compiled once for each problem and shape."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.contract.rows import init_memory, one_input, reset_rows
from seqjax.gradients.contract.window import Batch, Estimate, Memory
from seqjax.testing.proofs.cases import B, Case
from seqjax.testing.quick_jit import quick_jit

KEY = 17
"""The seed of everything that a check draws."""


class Sums(NamedTuple):
    """Sums over rows, windows or outcomes.

    Args:
        loss: the sum of the losses.
        grads: the sum of the gradients.
        probability: the sum of the probabilities, where outcomes are summed.
    """

    loss: Any
    grads: Any
    probability: Any = ()


@functools.partial(quick_jit, static_argnums=(0, 1))
def call(strategy, problem, params, state, memory, batch, key):
    """One call of the strategy, as training makes it."""
    return strategy(problem, params, state, memory, batch, key)


@functools.partial(quick_jit, static_argnums=(0, 1))
def initial_memory(strategy, problem, params, state, x=None):
    """The memory of B rows that start in `state`."""
    return init_memory(strategy, problem, params, state, B, x)


def estimates(strategy: Any, c: Case, windows: list[Batch] | None = None) -> list[Estimate]:
    """One estimate per window, each with a key of its own. State and memory are carried from window to window."""
    state, memory, made = c.state, initial_memory(strategy, c.problem, c.params, c.state, row_input(c)), []
    for i, batch in enumerate(c.windows if windows is None else windows):
        made.append(call(strategy, c.problem, c.params, state, memory, batch, jax.random.key(KEY + i)))
        state, memory = made[-1].state, made[-1].memory
    return made


@functools.partial(quick_jit, static_argnums=(0, 1), static_argnames="room")
def outcome_means(strategy, problem, params, state, memories, batch, *, room):
    """The mean estimate over all outcomes of ONE row, for each of K memories.

    Args:
        strategy: the strategy.
        problem: the problem.
        params: its parameters.
        state: the state that the previous window left, leaves [...].
        memories: K memories that it may have left, leaves [K, ...].
        batch: a batch of one row.
        room: K.

    Returns:
        The means as `Sums`, leaves [K, ...]; the probabilities [K, M] of the outcomes; the memories after each outcome,
        leaves [K, M, ...].
    """
    one_row = functools.partial(jax.tree.map, lambda a: a[None])
    num_steps = batch.weights.shape[0]

    def given(memory):
        rows = Memory(memory.shared, one_row(memory.rows))
        start, rows = reset_rows(strategy, problem, params, one_row(state), rows, batch.reset, x=one_input(batch.xs))
        memory = Memory(memory.shared, jax.tree.map(lambda a: a[0], rows.rows))
        noise, probability = strategy.outcomes(problem, params, memory, num_steps)
        probability = jnp.asarray(probability)

        def estimate(noise):
            return strategy.estimate(problem, params, start, rows, batch, one_row(noise))

        def mean(a):
            return jnp.tensordot(probability.astype(a.dtype), a, 1)

        e = jax.vmap(estimate, axis_size=len(probability))(jax.tree.map(jnp.asarray, noise))
        left = Memory(e.memory.shared, jax.tree.map(lambda a: a[:, 0], e.memory.rows))
        return Sums(mean(e.loss), jax.tree.map(mean, e.grads), probability.sum()), probability, left

    return jax.vmap(given, axis_size=room)(memories)


def row_input(c: Case) -> Any:
    """What a step of a case reads, as arrays."""
    return jax.tree.map(lambda a: jnp.asarray(a)[0, 0], c.windows[0].xs)


def batch_of_row(batch: Batch, b: int) -> Batch:
    """The batch of row b alone."""
    xs, weights = jax.tree.map(lambda a: a[:, b : b + 1], (batch.xs, batch.weights))
    return Batch(xs, weights, batch.reset[b : b + 1], batch.rows[b : b + 1])


def row_of[T](tree: T, b: Any) -> T:
    """Row b of leaves [B, ...]; or several rows, where b is an array."""
    return jax.tree.map(lambda a: a[b], tree)


def with_rows_in_order(c: Case, order: np.ndarray) -> Case:
    """The case with its rows in another order."""

    def moved(batch):
        xs, weights = jax.tree.map(lambda a: a[:, order], (batch.xs, batch.weights))
        return Batch(xs, weights, batch.reset[order], batch.rows[order])

    return c._replace(state=row_of(c.state, order), windows=[moved(batch) for batch in c.windows])

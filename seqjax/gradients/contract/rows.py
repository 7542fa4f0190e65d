"""The rows of a window: what is written for one row, mapped over all of them, and rows in which a sequence starts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from seqjax.errors import Error, dtype_shape
from seqjax.gradients.contract.problem import Params, Problem, State, where_rows
from seqjax.gradients.contract.window import Memory, Start
from seqjax.plugin.registry import name_of


def reset_rows(
    strategy: Any,
    problem: Problem,
    params: Params,
    state: State,
    memory: Memory,
    reset: Any,
    keys: jax.Array | None = None,
    x: Any = None,
) -> tuple[Start, Memory]:
    """The state in which a window starts, as a function of the parameters, and the memory that enters the window.

    Args:
        strategy: initialises the memory of rows that are reset.
        problem: gives the initial state of rows that are reset.
        params: the parameters, on which the initial state and memory may depend.
        state: the state that the previous window left, leaves [B, ...].
        memory: the memory that the previous window left.
        reset: bool[B], the rows in which a sequence starts; None: no row is reset.
        keys: one key per row, for initial states that are random; None: initial states are deterministic.
        x: as in `Gradient.init`.
    """
    if reset is None:
        return (lambda params: state), memory

    def start(params):
        return problem.start(params, state, reset, keys)

    new = init_memory(strategy, problem, params, start(params), len(reset), x)
    return start, memory._replace(rows=where_rows(reset, new.rows, memory.rows))


def init_memory(strategy: Any, problem: Problem, params: Params, state: State, num_rows: int, x: Any = None) -> Memory:
    """The memory of a strategy with which the first window begins.

    Args:
        strategy: the gradient strategy.
        problem: the problem.
        params: the parameters.
        state: the state in which B rows start, leaves [B, ...].
        num_rows: B.
        x: what one step of one sequence reads, as arrays or as shapes and dtypes. Only strategies that carry inputs
            need it, such as `rolling`, and only if the problem has no model or a loss of the user's own.

    Raises:
        UnknownInputError: the strategy needs `x`.
        Error: the `init` of the strategy returned no memory.
    """

    def init(params, state):
        memory = strategy.init(problem, params, state, x)
        if not isinstance(memory, Memory):
            raise Error(
                f"gradient {name_of(strategy)}: init returned {dtype_shape(memory)}, and must return "
                "seqjax.gradients.Memory(shared=..., rows=...)"
            )
        return memory

    return average_shared(over_rows(init, (None, 0), num_rows)(params, state))


def one_input(xs: PyTree) -> PyTree:
    """What one step of one sequence reads, as shapes and dtypes, from leaves [T, B, ...]."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[2:], a.dtype), xs)


def as_row(tree: PyTree, axis: int = 0) -> PyTree:
    """The arrays of one sequence as those of a batch of one row: with an axis of rows at place `axis`."""
    return jax.tree.map(lambda a: jnp.expand_dims(a, axis), tree)


def over_rows(f: Callable, in_axes: Any, num_rows: int, out_axes: Any = 0) -> Callable:
    """`f`, written for one row, mapped over `num_rows` rows.

    `jax.vmap` finds the number of rows in the arguments. Here the number is an argument, because the other arguments
    may have no leaves.

    Args:
        f: the function.
        in_axes: as in `jax.vmap`; for a `Memory` it is `Memory(None, 0)`.
        num_rows: B.
        out_axes: as in `jax.vmap`.
    """
    return jax.vmap(f, in_axes=in_axes, out_axes=out_axes, axis_size=num_rows)


def average_shared(memory: Memory) -> Memory:
    """A memory that `over_rows` returned, with the leaves [B, ...] of `shared` averaged over the rows."""
    return memory._replace(shared=jax.tree.map(lambda a: a.mean(0).astype(a.dtype), memory.shared))


def start_keys(key: jax.Array, rows: Int[Array, " B"]) -> jax.Array:
    """The keys of the initial states of the rows that a window resets, from the key of the window."""
    return row_keys(jax.random.fold_in(key, 0), rows)


def row_keys(key: jax.Array, rows: Int[Array, " B"]) -> jax.Array:
    """A key for each row, which depends on the number of the row alone."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(rows)

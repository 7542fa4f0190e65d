"""Gradient strategies: ways to differentiate many steps. The bases that their authors build on."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from seqjax.contracts import Params, State
from seqjax.errors import Error
from seqjax.plugin import Plugin
from seqjax.problem import Problem

Start = Callable[[Params], State]
"""The state in which the window starts, as a function of the parameters."""
Noise = Any
"""What a strategy draws: any pytree of arrays."""


class Batch(NamedTuple):
    """A window of every row.

    Args:
        xs: what the steps read, leaves [T, B, ...].
        weights: float[T, B], what each step's loss counts: zero where it is not scored, and divided by the global
            count, so that they sum to 1 over the batch of all devices. A strategy sums; it never normalises.
        fresh: bool[B], True where a sequence starts: its state is the initial one, inside the differentiated function.
        rows: int32[B], global row numbers, so that randomness does not depend on how rows lie on devices.
    """

    xs: Any
    weights: Any
    fresh: Any
    rows: Any


class Memory(NamedTuple):
    """What a strategy remembers from window to window.

    Args:
        shared: survives resets; averaged over rows and devices, so it must hold means.
        rows: one a row, reset where the row is fresh.
    """

    shared: Any = ()
    rows: Any = ()


class Estimate(NamedTuple):
    """What a strategy returns.

    Args:
        loss: the weighted sum of the steps' losses.
        grads: like the parameters.
        state: after the last step, leaves [B, ...].
        memory: for the next window.
    """

    loss: Any
    grads: Any
    state: Any
    memory: Any


class Gradient(Plugin):
    """A gradient strategy, written for the whole batch.

    Most strategies derive from `GatedGradient`, `RandomCuts` or `SequenceGradient` instead and write one function for
    one sequence. Randomness is drawn apart from the estimate, so that a claim can be proved by summing `estimate` over
    `outcomes`.
    """

    kind: ClassVar[str] = "gradient"
    claim: ClassVar[Literal["exact", "unbiased", "biased"]]
    """What the expectation of `grads` is, at fixed parameters."""
    of: ClassVar[Literal["window", "history"]]
    """Of which gradient: with the incoming state a constant, or through everything since the row was fresh."""

    def init(self, problem: Problem, params: Params, state: State) -> Memory:
        """Memory for ONE sequence that starts in `state`."""
        return Memory()

    def draw(self, key: jax.Array, memory: Memory, num_steps: int) -> Noise:
        """The randomness of ONE sequence; `()` when there is none."""
        return ()

    def outcomes(self, memory: Memory, num_steps: int) -> tuple[Noise, Float[Array, " M"]]:
        """All M values that `draw` can give, stacked, and their probabilities. For small `num_steps`.

        Raises:
            NotImplementedError: the strategy draws, and its outcomes have not been written or are continuous.
        """
        if self.draws:
            raise NotImplementedError(f"{type(self).__name__} draws, but does not list its outcomes")
        return (), jnp.ones(1)

    def estimate(
        self, problem: Problem, params: Params, start: Start, memory: Memory, batch: Batch, noise: Noise
    ) -> Estimate:
        """Loss and gradient, deterministic. `noise`, `memory.rows` and `start(params)` have leaves [B, ...]."""
        raise NotImplementedError

    @property
    def draws(self) -> bool:
        """Whether the strategy is random."""
        return type(self).draw is not Gradient.draw

    def __call__(
        self, problem: Problem, params: Params, state: State, memory: Memory, batch: Batch, key: jax.Array | None = None
    ) -> Estimate:
        """Resets fresh rows, draws for each row, estimates.

        Raises:
            Error: the strategy draws and `key` is None.
        """
        _, num_rows = batch.weights.shape
        keys = None if key is None else _row_keys(jax.random.fold_in(key, 0), batch.rows)

        def start(params):
            if problem.init_state is None:
                return state
            initial = _over_rows(problem.init_state, (None, 0), num_rows)(params, keys)
            return where_rows(batch.fresh, initial, state)

        new = init_memory(self, problem, params, start(params), num_rows)
        memory = memory._replace(rows=where_rows(batch.fresh, new.rows, memory.rows))
        return self.draw_and_estimate(problem, params, start, memory, batch, key)

    def draw_and_estimate(self, problem, params, start, memory, batch, key):
        """What `__call__` does once fresh rows are reset."""
        num_steps, num_rows = batch.weights.shape
        noise: Noise = ()
        if self.draws:
            if key is None:
                raise Error(f"{type(self).__name__} draws at random: pass a key, such as key=jax.random.key(0)")
            draw = functools.partial(self.draw, num_steps=num_steps)
            keys = _row_keys(jax.random.fold_in(key, 1), batch.rows)
            noise = _over_rows(draw, (0, Memory(None, 0)), num_rows)(keys, memory)
        return self.estimate(problem, params, start, memory, batch, noise)


class GatedGradient(Gradient):
    """Reverse mode with gates on the state's tangent. The author writes `gates`, for ONE sequence."""

    of = "window"

    def gates(self, noise: Noise, memory: Memory, num_steps: int) -> tuple[Float[Array, " T"] | None, Memory]:
        """What the tangent of the state that enters step t is multiplied by, for each t; None: all ones."""
        raise NotImplementedError

    def estimate(self, problem, params, start, memory, batch, noise):
        num_steps, num_rows = batch.weights.shape
        gates, memory = _over_rows(
            functools.partial(self.gates, num_steps=num_steps), (0, Memory(None, 0)), num_rows, out_axes=(1, 0)
        )(noise, memory)

        def loss(params):
            state, losses = problem.unroll(params, start(params), batch.xs, gates)
            return weighted_sum(batch.weights, losses), state

        (loss, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return Estimate(loss, grads, state, _average_shared(memory))


class SequenceGradient(Gradient):
    """A strategy of any other kind, written for ONE sequence: the author writes `one`. Sums, not means."""

    def one(
        self,
        problem: Problem,
        params: Params,
        start: Start,
        memory: Memory,
        xs: PyTree,
        weights: Float[Array, " T"],
        noise: Noise,
    ) -> tuple[Float[Array, ""], Params, State, Memory]:
        """(loss, grads, state, memory) of one sequence; xs leaves [T, ...]."""
        raise NotImplementedError

    def estimate(self, problem, params, start, memory, batch, noise):
        def one(row, memory, xs, weights, noise):
            def start_row(params):
                return jax.tree.map(lambda a: a[row], start(params))

            return self.one(problem, params, start_row, memory, xs, weights, noise)

        num_rows = batch.weights.shape[1]
        loss, grads, state, memory = jax.vmap(one, in_axes=(0, Memory(None, 0), 1, 1, 0))(
            jnp.arange(num_rows), memory, batch.xs, batch.weights, noise
        )
        loss, grads = jax.tree.map(lambda a: a.sum(0), (loss, grads))
        return Estimate(loss, grads, state, _average_shared(memory))


def value_and_grad(step_or_problem: Callable | Problem, strategy: Gradient) -> Callable[..., Estimate]:
    """Like `jax.value_and_grad`, for a scan: its result differentiates T steps by a strategy.

    The function returned takes `(params, state, xs, *, memory=None, weights=None, key=None)`, with state leaves [B,
    ...] and xs leaves [T, B, ...] (an unbatched scan: add an axis of 1), and returns an `Estimate`. `memory` None: the
    strategy's initial one; `weights` float[T, B], None: 1 / (T B); `key` is needed by a strategy that draws. No row is
    fresh: `state` is where the window starts.

    Args:
        step_or_problem: a scan body for one sequence, step(params, state, x) -> (state, loss), or a Problem.
        strategy: such as `Truncated(steps=50)`.
    """
    problem = step_or_problem if isinstance(step_or_problem, Problem) else Problem(step_or_problem)

    if not isinstance(strategy, Gradient):
        raise Error(f"value_and_grad takes an instance of a strategy, such as Full(), not {strategy!r}")

    def estimate(
        params: Params,
        state: State,
        xs: PyTree,
        *,
        memory: Memory | None = None,
        weights: Float[Array, "T B"] | None = None,
        key: jax.Array | None = None,
    ) -> Estimate:
        params, state, xs, weights = check_scan(params, state, xs, weights)
        num_rows = weights.shape[1]
        if memory is None:
            memory = init_memory(strategy, problem, params, state, num_rows)
        batch = Batch(xs, weights, jnp.zeros(num_rows, bool), jnp.arange(num_rows, dtype=jnp.int32))
        return strategy.draw_and_estimate(problem, params, lambda _: state, memory, batch, key)

    return estimate


def check_scan(params: Params, state: State, xs: PyTree, weights: Float[Array, "T B"] | None) -> tuple:
    """The same as arrays; weights None: 1 / (T B).

    Raises:
        Error: parameters that are no floats; xs without axes of time and rows, state or weights of other sizes.
    """
    params, state, xs = jax.tree.map(jnp.asarray, (params, state, xs))
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = jax.tree_util.keystr(path)
            raise Error(f"params{name} is {leaf.dtype}, which has no gradient: make it a float, or close over it")
    shapes = [leaf.shape for leaf in jax.tree.leaves(xs)]
    if not shapes or min(map(len, shapes)) < 2:
        raise Error(f"xs must have leaves [T, B, ...], found {shapes}; for a single sequence add an axis of 1")
    num_steps, num_rows = shapes[0][:2]
    if {shape[:2] for shape in shapes} != {(num_steps, num_rows)} or 0 in (num_steps, num_rows):
        raise Error(f"the leaves of xs must share T and B, at least 1 each; found {shapes}")
    for path, leaf in jax.tree.leaves_with_path(state):
        if leaf.shape[:1] != (num_rows,):
            name = jax.tree_util.keystr(path)
            raise Error(f"state{name} has shape {leaf.shape}, and xs {num_rows} rows: state has leaves [B, ...]")
    if weights is None:
        weights = jnp.full((num_steps, num_rows), 1 / (num_steps * num_rows))
    if jnp.shape(weights) != (num_steps, num_rows):
        raise Error(f"weights must be float[T, B] = [{num_steps}, {num_rows}], not {list(jnp.shape(weights))}")
    return params, state, xs, jnp.asarray(weights)


def init_memory(strategy: Gradient, problem: Problem, params: Params, state: State, num_rows: int) -> Memory:
    """The strategy's memory for rows that start in `state`, leaves [B, ...]."""
    return _average_shared(_over_rows(functools.partial(strategy.init, problem), (None, 0), num_rows)(params, state))


def weighted_sum(weights: Float[Array, "*T"], losses: Float[Array, "*L"]) -> Float[Array, ""]:
    """Sum of the losses times the weights, in the losses' dtype.

    Raises:
        Error: a step's loss is not one number.
    """
    if losses.shape != weights.shape:
        raise Error(f"a step's loss must be one number, float[]: {losses.shape} is not {weights.shape}")
    return jnp.sum(weights.astype(losses.dtype) * losses)


def _over_rows(f, in_axes, num_rows, out_axes=0):
    """`f` for one row, vmapped over `num_rows`, some of whose arguments may have no leaves."""
    return jax.vmap(f, in_axes=in_axes, out_axes=out_axes, axis_size=num_rows)


def _row_keys(key, rows):
    return jax.vmap(functools.partial(jax.random.fold_in, key))(rows)


def where_rows(fresh, new, old):
    """Row by row: `new` where fresh, else `old`, in the dtype of `old`. Leaves [B, ...]; keys and integers too."""

    def leaf(a, b):
        a = a if a.dtype == b.dtype else a.astype(b.dtype)
        return jnp.where(fresh.reshape(fresh.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(leaf, new, old)


def _average_shared(memory):
    return memory._replace(shared=jax.tree.map(lambda a: a.mean(0).astype(a.dtype), memory.shared))

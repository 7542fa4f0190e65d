"""Cases for strategies that carry an influence matrix, and the same rules in a loop over steps and rows, in numpy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Cell, Problem, Values, value_and_grad
from seqjax.gradients import Batch, init_memory
from seqjax.testing.proofs.calls import call
from seqjax.testing.proofs.cases import Case
from seqjax.testing.quick_jit import quick_jit
from support.parts import derivatives, ravel

T, B, H, V = 4, 2, 3, 5
"""The steps of a window, the rows, the units, and the number of ids."""


def windows(rng: Any, xs: Any, reset: Any) -> list[Batch]:
    """One batch for each entry of xs, with random weights."""
    return [
        Batch(x, jnp.asarray(rng.uniform(size=(T, B))), jnp.array(flags), jnp.arange(B, dtype=jnp.int32))
        for x, flags in zip(xs, reset, strict=True)
    ]


@functools.cache
def of_model(model: Any, spec: Any) -> tuple[Case, list]:
    """A case with parameters and states that are not zero, and three windows, with its derivatives."""
    rng, problem = np.random.default_rng(0), Problem.of(model, spec)
    random = lambda a: jnp.asarray(rng.normal(size=a.shape, scale=0.8))
    params = jax.tree.map(random, jax.eval_shape(problem.init, jax.random.key(0)))
    if isinstance(model, Cell) and model.layers == 1:
        params["layer_0"]["b_hh"] = random(params["layer_0"]["b_h"])
    state = jax.eval_shape(jax.vmap(lambda _: model.init_state(params, spec)), jnp.arange(B))
    state = jax.tree.map(random, state)
    if isinstance(spec.inputs, Values):
        xs = [(jnp.asarray(v), jnp.asarray(v[::-1])) for v in rng.normal(size=(3, T, B, 2))]
    else:
        xs = [(jnp.asarray(i[..., 0]), jnp.asarray(i[..., 1])) for i in rng.integers(0, V, (3, T, B, 2))]
    batches = windows(rng, xs, [[True, True], [False, True], [False, False]])
    c = Case(problem, params, state, batches, problem.step, problem.init_state)
    return c, derivatives(c)


def run(strategy: Any, c: Case, key: jax.Array | None = None) -> list:
    """Losses, gradients and states of consecutive windows, with memory carried."""
    state, memory, found = c.state, init_memory(strategy, c.problem, c.params, c.state, B), []
    for w, batch in enumerate(c.windows):
        keys = None if key is None else jax.random.fold_in(key, w)
        e = call(strategy, c.problem, c.params, state, memory, batch, keys)
        state, memory = e.state, e.memory
        found.append((e.loss, ravel(e.grads), e.state))
    return found


def with_a_reset(strategy: Any, c: Case, at: int) -> tuple:
    """The second window, in which row 0 begins anew at step `at`: as it is, and as two windows.

    Returns:
        Twice (loss, gradient, state, what rows carry).
    """
    first, second = c.windows[:2]
    state, memory = c.state, init_memory(strategy, c.problem, c.params, c.state, B)
    e = call(strategy, c.problem, c.params, state, memory, first, None)
    resets = (jnp.arange(T) == at)[:, None] & (jnp.arange(B) == 0)
    gradient = quick_jit(value_and_grad(c.problem, strategy))
    whole = gradient(c.params, e.state, second.xs, memory=e.memory, weights=second.weights, reset=resets)
    pieces, state, memory = [], e.state, e.memory
    for piece in (slice(0, at), slice(at, T)) if at else (slice(T),):
        xs, weights = jax.tree.map(lambda a, piece=piece: a[piece], (second.xs, second.weights))
        reset = jnp.arange(B) == (0 if piece.stop == T else -1)
        e = call(
            strategy,
            c.problem,
            c.params,
            state,
            memory,
            Batch(xs, weights, reset, jnp.arange(B, dtype=jnp.int32)),
            None,
        )
        state, memory = e.state, e.memory
        pieces.append(e)
    loss, grads = jax.tree.map(lambda *a: sum(a), *((e.loss, e.grads) for e in pieces))
    return (whole.loss, whole.grads, whole.state, whole.memory.rows), (loss, grads, state, memory.rows)


class Rtrl:
    """M_t = J_t M_{t-1} + I_t."""

    def __init__(self, size, num_params):
        self.M = np.zeros((size, num_params))

    def begin(self, I):
        self.M = self.M + I

    def advance(self, J, I):
        self.M = J @ self.M + I


def by_hand(c: Case, derivatives: list, influence: Any) -> list:
    """The same as `run`, by a loop over steps and rows.

    Args:
        c: the case.
        derivatives: those of its windows.
        influence: (numbers of the state, of the parameters) -> an object with M, `begin(I)` and `advance(J, I)`.
    """
    found, carried = [], [None] * B
    for d, batch in zip(derivatives, c.windows, strict=True):
        total, weights = 0.0, np.asarray(batch.weights)
        for b in range(B):
            if carried[b] is None or batch.reset[b]:
                carried[b] = influence(*d.I.shape[2:])
            carried[b].begin(d.start[b])
            for t in range(T):
                total = total + weights[t, b] * (d.q[b, t] @ carried[b].M + d.direct[b, t])
                carried[b].advance(d.J[b, t], d.I[b, t])
        found.append((np.sum(weights * d.losses.T), total, d.state))
    return found


def states_of(c: Case) -> list[np.ndarray]:
    """The states that enter the steps of each window, by the step in a loop, leaves [T, B, ...]."""
    found, state = [], c.state
    step = jax.jit(jax.vmap(lambda state, x: c.step(c.params, state, x)[0]))
    for batch in c.windows:
        state, entering = c.problem.start(c.params, state, batch.reset), []
        for t in range(T):
            entering.append(state)
            state = step(state, jax.tree.map(lambda a, t=t: a[t], batch.xs))
        found.append(jax.tree.map(lambda *a: np.stack(a), *entering))
    return found

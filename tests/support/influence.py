"""Cases for strategies that carry an influence matrix, and the same rules in a loop over steps and rows, in numpy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Cell, Problem, Values, estimate
from seqjax.gradients import Batch, init_memory
from seqjax.gradients.contract.rows import reset_rows
from seqjax.testing.proofs.cases import Case
from seqjax.testing.quick_jit import quick_jit
from support.parts import derivatives, ravel

T, B, H, V = 4, 2, 3, 5
"""The steps of a window, the rows, the units, and the number of ids."""
RESET = ((True, True), (False, True), (False, False))
"""The rows that are reset at each of the three windows of a case."""


def windows(rng: Any, xs: Any, reset: Any) -> list[Batch]:
    """One batch for each entry of xs, with random weights."""
    weights = [rng.uniform(size=jax.tree.leaves(x)[0].shape[:2]) for x in xs]
    each = jax.device_put(list(zip(weights, np.array(reset), strict=True)))
    rows = jax.device_put(np.arange(B, dtype=np.int32))
    return [Batch(x, *given, rows) for x, given in zip(xs, each, strict=True)]


@functools.cache
def of_model(model: Any, spec: Any) -> tuple[Case, list]:
    """A case with parameters and states that are not zero, and three windows, with its derivatives."""
    rng, problem = np.random.default_rng(0), Problem.of(model, spec)
    random = lambda a: jax.device_put(rng.normal(size=a.shape, scale=0.8))
    params = jax.tree.map(random, jax.eval_shape(problem.init, jax.random.key(0)))
    if isinstance(model, Cell) and model.layers == 1:
        params["layer_0"]["b_hh"] = random(params["layer_0"]["b_h"])
    state = jax.tree.map(random, jax.eval_shape(lambda params: problem.init_rows(params, B), params))
    if isinstance(spec.inputs, Values):
        xs = [(jax.device_put(v), jax.device_put(v[::-1])) for v in rng.normal(size=(3, T, B, 2))]
    else:
        xs = [(jax.device_put(i[..., 0]), jax.device_put(i[..., 1])) for i in rng.integers(0, V, (3, T, B, 2))]
    c = Case(problem, params, state, windows(rng, xs, RESET), problem.step, problem.init_state)
    return c, derivatives(c)


def follow(strategy: Any, problem: Any, params: Any, state: Any, batches: Any, noise: Any = None) -> Any:
    """The estimates of consecutive windows, with state and memory carried; leaves [number of windows, ...].

    Args:
        strategy: the strategy.
        problem: the problem.
        params: its parameters.
        state: the state that enters the first window.
        batches: the windows.
        noise: what is drawn, leaves [number of windows, ...]; None: the strategy draws nothing.
    """
    batches = jax.tree.map(lambda *a: jnp.stack(a), *batches)

    def window(carry, inputs):
        batch, drawn = inputs
        if drawn is None:
            e = strategy(problem, params, *carry, batch)
        else:
            start, memory = reset_rows(strategy, problem, params, *carry, batch.reset)
            e = strategy.estimate(problem, params, start, memory, batch, drawn)
        return (e.state, e.memory), e._replace(outputs=None)

    start = state, init_memory(strategy, problem, params, state, B)
    return jax.lax.scan(window, start, (batches, noise))[1]


_follow = quick_jit(follow, static_argnums=(0, 1))


def estimates(strategy: Any, c: Case, noise: Any = None) -> Any:
    """`follow` for all windows of a case, in numpy."""
    return jax.tree.map(np.asarray, _follow(strategy, c.problem, c.params, c.state, c.windows, noise))


def summary(estimates: Any) -> list:
    """Loss, gradient and state of each window, from the results of `follow`."""
    found = jax.tree.map(np.asarray, (estimates.loss, estimates.grads, estimates.state))
    each = (jax.tree.map(lambda a, w=w: a[w], found) for w in range(len(found[0])))
    return [(loss, ravel(grads), state) for loss, grads, state in each]


def run(strategy: Any, c: Case, noise: Any = None) -> list:
    """`summary` of all windows of a case, with memory carried."""
    return summary(estimates(strategy, c, noise))


def with_a_reset(strategy: Any, c: Case, at: int) -> tuple:
    """Half a window, then the second one, in which row 0 begins anew at step `at`: as it is, and as two windows.

    Args:
        strategy: the strategy.
        c: the case.
        at: 0 or T / 2, the first step of one of the two windows.

    Returns:
        Twice (loss, gradient, state, what rows carry).
    """
    half = T // 2
    halves = [
        Batch(*jax.tree.map(lambda a, piece=piece: np.asarray(a)[piece], (batch.xs, batch.weights)), reset, batch.rows)
        for batch, piece, reset in (
            (c.windows[0], slice(half), np.array(RESET[0])),
            (c.windows[1], slice(half), np.array([at == 0, False])),
            (c.windows[1], slice(half, T), np.array([at == half, False])),
        )
    ]
    pieces = jax.tree.map(np.asarray, _follow(strategy, c.problem, c.params, c.state, halves))
    state, memory = jax.tree.map(lambda a: a[0], (pieces.state, pieces.memory))
    resets = (np.arange(T) == at)[:, None] & (np.arange(B) == 0)
    xs, weights = c.windows[1][:2]
    whole = _gradient(strategy, c.problem, c.params, state, xs, memory, weights, resets)
    loss, grads = jax.tree.map(lambda a: a[1] + a[2], (pieces.loss, pieces.grads))
    last = jax.tree.map(lambda a: a[2], (pieces.state, pieces.memory.rows))
    return (whole.loss, whole.grads, whole.state, whole.memory.rows), (loss, grads, *last)


@functools.partial(quick_jit, static_argnums=(0, 1))
def _gradient(strategy, problem, params, state, xs, memory, weights, reset):
    return estimate(problem, strategy, batched=True)(params, state, xs, memory=memory, weights=weights, reset=reset)


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
        total, weights, reset = 0.0, np.asarray(batch.weights), np.asarray(batch.reset)
        for b in range(B):
            if carried[b] is None or reset[b]:
                carried[b] = influence(*d.I.shape[2:])
            carried[b].begin(d.start[b])
            for t in range(len(weights)):
                total = total + weights[t, b] * (d.q[b, t] @ carried[b].M + d.direct[b, t])
                carried[b].advance(d.J[b, t], d.I[b, t])
        found.append((np.sum(weights * d.losses.T), total, d.state))
    return found


def states_of(c: Case) -> list[Any]:
    """The states that enter the steps of each window, leaves [T, B, ...]."""

    def window(state, batch):
        body = lambda state, x: (jax.vmap(lambda s, x: c.step(c.params, s, x)[0])(state, x), state)
        return jax.lax.scan(body, c.problem.start(c.params, state, batch.reset), batch.xs)

    batches = jax.tree.map(lambda *a: np.stack(a), *c.windows)
    found = quick_jit(lambda state, batches: jax.lax.scan(window, state, batches)[1])(c.state, batches)
    return [jax.tree.map(lambda a, w=w: np.asarray(a)[w], found) for w in range(len(c.windows))]

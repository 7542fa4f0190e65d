"""`measure`: how wrong, how noisy and how dear gradient strategies are, side by side on one problem."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqjax.check import check_differentiable
from seqjax.contracts import Params, State
from seqjax.display import describe
from seqjax.errors import Error, is_whole
from seqjax.floats import ravel_float
from seqjax.gradient import Gradient, init_memory, weighted_sum, where_rows
from seqjax.measures import Measures, summarize
from seqjax.problem import Problem
from seqjax.run import Run
from seqjax.stretch import Stretch, of_run, of_scan

GROUPS = 20
"""Draws are averaged in so many groups, whose means tell how uncertain the mean of all is."""
ROUNDS = 10
"""How often each update is timed."""
OF = ("window", "history")


def measure(
    run_or_problem: Run | Problem | Callable,
    strategies: Mapping[str, Gradient] | Sequence[Gradient] | Gradient,
    *,
    draws: int = 100,
    windows: int | None = None,
    at: str = "end",
    params: Params = None,
    state: State = None,
    xs: Any = None,
    weights: Any = None,
    seed: int = 0,
    together: int = 1,
) -> Measures:
    """Bias, variance, direction, seconds and memory of gradient strategies, at fixed parameters.

    What is measured is the sum of a strategy's estimates over consecutive windows, between which its memory and the
    state are carried as in training. It is set against two true gradients: of the windows (in each the incoming state
    is a constant) and of the history (through all of them). For the estimators and their equations see `Measures`.

    Of a run are taken its problem, its parameters and the first windows of its first epoch. A model with dropout is
    measured without it. A random strategy is drawn from in one compiled call, which holds the gradients of `together`
    draws and 20 means; a deterministic one is evaluated once.

    Args:
        run_or_problem: a run; a Problem; or a scan body for one sequence, step(params, state, x) -> (state, loss).
        strategies: by name; a list, or one alone, is named by what it is.
        draws: of each random strategy; rounded up to a multiple of 20 from there on, and of `together`.
        windows: how many consecutive ones; None: 3 of a run, 1 of anything else.
        at: of a run: `"end"`, its parameters, or `"init"`, those before its first update.
        params: other parameters of a run; required of anything else.
        state: leaves [B, ...], where the first window starts; not of a run.
        xs: leaves [T, B, ...], cut into `windows` of equal length; not of a run.
        weights: float[T, B] of the losses, None: 1 / (T B); not of a run.
        seed: of the draws, from 0 to 2³² - 1.
        together: how many draws are computed side by side: faster on a GPU, for that many times the memory.

    Raises:
        Error: no strategy; too few draws; windows that the data do not give; a true gradient of zero.
    """
    if isinstance(run_or_problem, Run):
        check_differentiable(run_or_problem.experiment.model)
    named = _named(strategies)
    _check(draws, windows, at, seed, together)
    problem: Problem
    if isinstance(run_or_problem, Run):
        if not (state is None and xs is None and weights is None):
            raise Error("a run has its own windows: leave out state, xs and weights, or pass run.problem")
        problem = run_or_problem.problem
        params, windows_N = of_run(run_or_problem, at, params, windows)
    else:
        problem = run_or_problem if isinstance(run_or_problem, Problem) else Problem(run_or_problem)
        params, windows_N = of_scan(params, state, xs, weights, 1 if windows is None else windows)
    true = {of: _true_gradient(problem, of, params, windows_N) for of in OF}
    norms = {of: float(np.linalg.norm(np.asarray(g_P, np.float64))) for of, g_P in true.items()}
    if not all(0 < norm < np.inf for norm in norms.values()):
        raise Error(f"the true gradient is zero or not finite, and nothing can be measured relative to it: {norms}")
    rows, means, updates = [], [], []
    for index, strategy in enumerate(named.values()):
        keys = _keys(jax.random.fold_in(jax.random.key(seed), index), draws if strategy.draws else 1, together)
        norm = norms[strategy.of]  # of 1, no square overflows
        scaled = {of: g_P / norm for of, g_P in true.items()}
        means_KP, squares_K, cosines_K = _moments(problem, strategy, params, windows_N, scaled[strategy.of], norm, keys)
        rows.append(summarize(means_KP, squares_K, cosines_K, keys.size, scaled, strategy.of))
        means.append(np.asarray(means_KP.mean(0), np.float64))
        updates.append(_compiled_update(problem, strategy, params, windows_N))
    shape = windows_N.batches.weights.shape
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    temp_bytes = np.array([compiled.memory_analysis().temp_size_in_bytes for compiled, _ in updates])
    return Measures(
        named, shape, norms, **columns, alignment=_cosines(means), seconds=_seconds(updates), temp_bytes=temp_bytes
    )


def _check(draws, windows, at, seed, together):
    """Raises an `Error` with all that is wrong."""
    ranges = {
        f"draws = {draws!r} must be a whole number, at least 3: fewer say nothing of the spread": (
            is_whole(draws) and draws >= 3
        ),
        f"windows = {windows!r} must be a whole number, at least 1": (
            windows is None or (is_whole(windows) and windows >= 1)
        ),
        f'at = {at!r} must be "init" or "end"; for other parameters pass params=': at in ("init", "end"),
        f"seed = {seed!r} must be a whole number, at least 0, and below 2^32": is_whole(seed) and 0 <= seed < 2**32,
        f"together = {together!r} must be a whole number, at least 1": is_whole(together) and together >= 1,
    }
    problems = [problem for problem, good in ranges.items() if not good]
    if problems:
        raise Error("measure:", problems=problems)


def _named(strategies):
    if isinstance(strategies, Gradient):
        strategies = [strategies]
    if not isinstance(strategies, Mapping):
        strategies = list(strategies)
        names = [describe(s) if isinstance(s, Gradient) else repr(s) for s in strategies]
        if len(set(names)) < len(names):
            raise Error(f"strategies that come twice: {', '.join(names)}; name them in a dict")
        strategies = dict(zip(names, strategies, strict=True))
    wrong = [name for name, strategy in strategies.items() if not isinstance(strategy, Gradient)]
    if wrong or not strategies:
        raise Error(f"measure takes strategies such as Full(), by name or in a list; not {', '.join(wrong) or 'none'}")
    return dict(strategies)


def _start(problem, state, fresh):
    """The state of a window as a function of the parameters. Rows that start afresh do so without noise."""

    def start(params):
        if fresh is None or problem.init_state is None:
            return state
        return where_rows(fresh, jax.vmap(lambda _: problem.init_state(params))(fresh), state)

    return start


@functools.partial(jax.jit, static_argnums=(0, 1))
def _true_gradient(problem: Problem, of: str, params: Params, windows: Stretch) -> Float[Array, " P"]:
    """The gradient of all windows' losses: with the state that enters each a constant, or through all of them."""

    def loss(params):
        def one(state, batch):
            carried = jax.lax.stop_gradient(state) if of == "window" else state
            start = _start(problem, carried, batch.fresh)
            state, losses_TB = problem.unroll(params, start(params), batch.xs)
            return state, weighted_sum(batch.weights, losses_TB)

        return jax.lax.scan(jax.checkpoint(one), windows.state, windows.batches)[1].sum()

    return _flat(jax.grad(loss)(params))


def _flat(grads):
    """A gradient as one vector, in float32 at least."""
    vector = ravel_float(grads)[0]
    return vector.astype(np.promote_types(vector.dtype, np.float32))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _update(problem, strategy, params, carry, batch, key):
    """One window: the (state, memory) after it, and the gradient."""
    state, memory = carry
    start = _start(problem, state, batch.fresh)
    num_rows = batch.rows.shape[0]
    if batch.fresh is None:
        batch = batch._replace(fresh=jnp.zeros(num_rows, bool))
    else:
        new = init_memory(strategy, problem, params, start(params), num_rows)
        memory = memory._replace(rows=where_rows(batch.fresh, new.rows, memory.rows))
    estimate = strategy.draw_and_estimate(problem, params, start, memory, batch, key)
    return (estimate.state, estimate.memory), estimate.grads


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moments(problem, strategy, params, windows, true_P, norm, keys_KCb):
    """Mean gradient [K, P], summed squared distance from it [K] and mean cosine with the truth [K] of each group.

    `true_P` is in units of `norm`, and so is what is returned. Means and squares are updated draw by draw (Chan, Golub
    & LeVeque 1983), so that nothing cancels.
    """

    def one(key):
        def body(carry, inputs):
            carry, total_P = carry
            n, batch = inputs
            carry, grads = _update(problem, strategy, params, carry, batch, jax.random.fold_in(key, n))
            return (carry, total_P + _flat(grads)), None

        memory = init_memory(strategy, problem, params, windows.state, windows.batches.rows.shape[1])
        numbers = jnp.arange(len(windows.batches.weights))
        start = ((windows.state, memory), jnp.zeros_like(true_P))
        return jax.lax.scan(body, start, (numbers, windows.batches))[0][1] / norm

    def more(carry, keys_b):
        count, mean_P, squares, cosines = carry
        b = len(keys_b)
        new_bP = jax.vmap(one)(keys_b)
        new_P = new_bP.mean(0)
        away_P, count = new_P - mean_P, count + b
        squares += ((new_bP - new_P) ** 2).sum() + (away_P**2).sum() * (b * (count - b) / count)
        lengths_b = jnp.linalg.norm(new_bP, axis=1) * jnp.linalg.norm(true_P)
        cosines += jnp.where(lengths_b > 0, new_bP @ true_P / jnp.where(lengths_b > 0, lengths_b, 1), 0).sum()
        return (count, mean_P + away_P * (b / count), squares, cosines), None

    def group(keys_Cb):
        zero = jnp.zeros((), true_P.dtype)
        (count, mean_P, squares, cosines), _ = jax.lax.scan(more, (zero, jnp.zeros_like(true_P), zero, zero), keys_Cb)
        return mean_P, squares, cosines / count

    return jax.lax.map(group, keys_KCb)


def _keys(key, draws, together):
    """Keys [K, C, b]: K groups of C times b draws side by side; at least so many as are asked for."""
    together = min(together, draws)
    groups = min(GROUPS, -(-draws // together))
    chunks = -(-draws // (groups * together))
    return jax.random.split(key, (groups, chunks, together))


def _cosines(means: list) -> np.ndarray:
    """Of all pairs, float64[S, S]; 0 with a gradient that is zero."""
    units = [mean / (np.linalg.norm(mean) or 1.0) for mean in means]
    return np.array([[one @ other for other in units] for one in units])


def _compiled_update(problem, strategy, params, windows):
    """One update of the first window, compiled, and its arguments."""
    memory = init_memory(strategy, problem, params, windows.state, windows.batches.rows.shape[1])
    batch = jax.tree.map(lambda a: a[0], windows.batches)
    args = (params, (windows.state, memory), batch, jax.random.key(0))
    return _update.lower(problem, strategy, *args).compile(), args


def _seconds(updates: list) -> Float[np.ndarray, " S"]:
    """Median time of each update; they take turns, so that what slows the machine down slows all of them."""
    for compiled, args in updates:
        jax.block_until_ready(compiled(*args))
    seconds = np.zeros((ROUNDS, len(updates)))
    for n in range(ROUNDS):
        for s, (compiled, args) in enumerate(updates):
            began = time.perf_counter()
            jax.block_until_ready(compiled(*args))
            seconds[n, s] = time.perf_counter() - began
    return np.median(seconds, axis=0)

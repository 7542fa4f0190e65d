"""What the stages of the referee compute: prices, bias and variance of strategies, and the losses of their runs."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.gradients import Batch, Full, init_memory

from .tasks import Feed, Task
from .training import BLOCKS, compile_run, tail

MOST_EXTENSIONS = 2
"""How many rates are added on each side of the grid at most, if the best one lies at its edge."""
MOST_CLIPPED = 0.05
"""If a larger share of the updates of a strategy is clipped, it also runs with the other clips."""
MEASURED_AFTER, MEASURED_WINDOWS, DRAWS = 4, 3, 40
"""Bias and variance are measured after one fourth of a run, on three windows if the state is carried from one to the
next, with 40 draws of a random strategy."""
TIMED_STEPS, TIMED_CALLS = 4096, 5
"""A price is the median of so many calls, each of which computes the gradients of windows with so many steps."""
SEED = 9_000
"""The seed of the data with which prices, bias and variance are measured."""


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    rates: tuple[float, ...]
    """The grid of learning rates."""
    clips: tuple[float | None, ...]
    """The norms to which gradients are clipped; None: not at all. A strategy runs with the first one, and with the
    others if more than 5 % of its updates are clipped."""
    optimizer: str
    """One of `training.OPTIMIZERS`."""
    seeds: tuple[int, ...]
    """The seeds, each of which counts once, and helps once to choose what the other half of them is counted with."""


def halves(num_seeds: int) -> list[np.ndarray]:
    """The indices of the seeds in the two halves."""
    return [np.arange(num_seeds)[first::2] for first in (0, 1)]


def price(task: Task, model: sj.Model | None, strategy: sj.Gradient) -> dict[str, Any]:
    """Seconds and bytes of a gradient.

    `seconds` are core-seconds of one gradient of a window, inside of a compiled loop over windows, without optimizer
    and without compiling. `carried` are the bytes of the state and of the memory that go from window to window, and
    `temporaries` the bytes that XLA allocates besides. `core_share` is the share of the time that this process had its
    core. It is nearly 1 if no other program used it.
    """
    problem, feed = task.problem(model), task.feed(SEED, max(16, TIMED_STEPS // task.window))
    if (reason := refusal(strategy, problem, feed)) is not None:
        return {"refused": reason}
    updates, num_rows = feed.reset.shape
    key = jax.random.key(SEED)

    def begin() -> tuple[Any, Any, Any]:
        params = problem.init(key)
        state = problem.init_rows(params, num_rows)
        return params, state, init_memory(strategy, problem, params, state, num_rows)

    @jax.jit
    def gradients(params: Any, state: Any, memory: Any, feed: Feed) -> Any:
        def update(carry: Any, inputs: Any) -> Any:
            state, memory, total = carry
            t, window = inputs
            batch = Batch(window.xs, window.weights, window.reset, jnp.arange(num_rows, dtype=jnp.int32))
            estimate = strategy(problem, params, state, memory, batch, jax.random.fold_in(key, t))
            return (estimate.state, estimate.memory, jax.tree.map(jnp.add, total, estimate.grads)), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(update, (state, memory, zeros), (jnp.arange(updates), feed))[0]

    start = jax.jit(begin)()
    compiled = gradients.lower(*start, feed).compile()
    wall, core = [], []
    for _ in range(TIMED_CALLS):
        began, began_on_core = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(*start, feed))
        core.append(time.process_time() - began_on_core)
        wall.append(time.perf_counter() - began)
    params, *carried = start
    usage: Any = compiled.memory_analysis()
    return {
        "refused": None,
        "seconds": float(np.median(core)) / updates,
        "carried": _bytes(carried),
        # The loop holds what is carried, and the sum of the gradients, beside what a window needs.
        "temporaries": max(usage.temp_size_in_bytes - _bytes(carried) - _bytes(params), 0),
        "core_share": min(sum(core) / sum(wall), 1.0),
    }


def errors(
    settings: Settings, task: Task, model: sj.Model | None, updates: int, strategies: Mapping[str, sj.Gradient]
) -> dict[str, dict[str, float | None]]:
    """Bias and variance of each strategy that takes a task.

    The parameters are those after a part of a run with the full gradient: at the initial ones nearly the whole gradient
    is that of the read-out, which all strategies share.
    """
    problem = task.problem(model)
    before = task.feed(SEED, max(BLOCKS, updates // MEASURED_AFTER))
    rate, clip = settings.rates[len(settings.rates) // 2], settings.clips[0]
    params = compile_run(problem, Full(), before, settings.optimizer)(SEED, rate, clip, before).params
    feed = task.feed(SEED + 1, MEASURED_WINDOWS)
    # A window that starts a sequence in every row has no history.
    windows = 1 if feed.reset[1:].any() else MEASURED_WINDOWS
    state = problem.init_rows(params, feed.reset.shape[1])

    def join(a: Any) -> Any:
        return a[:windows].reshape(-1, *a.shape[2:])

    usable = {name: strategy for name, strategy in strategies.items() if refusal(strategy, problem, feed) is None}
    measured = sj.measure(
        problem,
        params,
        state,
        jax.tree.map(join, feed.xs),
        usable,
        weights=join(feed.weights) / windows,
        windows=windows,
        draws=DRAWS,
        batched=True,
        progress=False,
    )
    columns = ("history_bias", "history_bias_error", "variance", "cosine")
    return {
        name: {column: _finite(getattr(measured, column)[n]) for column in columns} for n, name in enumerate(usable)
    }


def train(
    settings: Settings, task: Task, model: sj.Model | None, updates: int, strategy: sj.Gradient
) -> dict[str, Any]:
    """The losses of all runs of a strategy on a task: all rates of the grid with all seeds."""
    problem, feeds = task.problem(model), [task.feed(seed, updates) for seed in settings.seeds]
    if (reason := refusal(strategy, problem, feeds[0])) is not None:
        return {"refused": reason}
    run = compile_run(problem, strategy, feeds[0], settings.optimizer)

    def runs(rate: float, clip: float | None) -> dict[str, Any]:
        results = [run(seed, rate, clip, feed) for seed, feed in zip(settings.seeds, feeds, strict=True)]
        return {
            "rate": rate,
            "clip": clip,
            "clipped": float(np.mean([each.clipped for each in results])),
            "blocks": [[*map(_finite, each.blocks)] for each in results],
        }

    first, *others = settings.clips
    found = search(lambda rate: runs(rate, first), settings.rates)
    if np.mean([each["clipped"] for each in found]) > MOST_CLIPPED:
        for clip in others:
            found += search(lambda rate, clip=clip: runs(rate, clip), settings.rates)
    return {"refused": None, "seeds": settings.seeds, "runs": found}


def search(runs: Callable[[float], dict[str, Any]], rates: Iterable[float]) -> list[dict[str, Any]]:
    """The runs with all rates of a grid, which is extended while a half of the seeds has its best rate at an edge."""
    found = {rate: runs(rate) for rate in sorted(rates)}
    factor = max(found) / sorted(found)[-2]
    for step, edge in ((1 / factor, min), (factor, max)):
        for _ in range(MOST_EXTENSIONS):
            if edge(found) not in best_rates(found):
                break
            rate = edge(found) * step
            found[rate] = runs(rate)
    return [found[rate] for rate in sorted(found)]


def best_rates(found: Mapping[float, dict[str, Any]]) -> list[float]:
    """The rate that is best for each half of the seeds."""
    rates = sorted(found)
    tails = np.stack([tail(as_array(found[rate]["blocks"])) for rate in rates])
    return [rates[choose(tails[:, half])] for half in halves(tails.shape[1])]


def choose(losses_CS: np.ndarray) -> int:
    """The candidate with the lowest mean loss; of equal ones the first. If all diverge, the first."""
    return int(np.argmin(losses_CS.mean(1)))


def as_array(losses: Any) -> np.ndarray:
    """Losses from a file, float64; NaN where a loss was not finite."""
    return np.array(losses, np.float64)


def _finite(value: float) -> float | None:
    """A number for JSON, which has no NaN, in as many digits as float32 has."""
    return float(f"{value:.7g}") if np.isfinite(value) else None


def _bytes(tree: Any) -> int:
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree) if hasattr(a.dtype, "itemsize"))


def refusal(strategy: sj.Gradient, problem: Any, feed: Feed) -> str | None:
    """Why a strategy does not take a problem; None: it does.

    Raises:
        Error: its gradient does not have the shapes of the parameters.
    """

    def update(window: Feed) -> Any:
        key, num_rows = jax.random.key(0), len(window.reset)
        params = problem.init(key)
        state = problem.init_rows(params, num_rows)
        memory = init_memory(strategy, problem, params, state, num_rows)
        batch = Batch(*window, rows=jnp.arange(num_rows, dtype=jnp.int32))
        return params, strategy(problem, params, state, memory, batch, key).grads

    try:
        params, grads = jax.eval_shape(update, jax.tree.map(lambda a: a[0], feed))
    except sj.Error as fault:
        return str(fault)
    if _shapes(params) != _shapes(grads):
        raise sj.Error(
            f"{type(strategy).__name__}: the gradient does not have the shapes of the parameters; "
            "`seqjax check gradient` with the name of the strategy says which"
        )
    return None


def _shapes(tree: Any) -> Any:
    """The shapes of a tree."""
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]

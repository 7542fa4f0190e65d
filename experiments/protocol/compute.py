"""What the stages of the referee compute: bias, variance and seconds of strategies, and the losses of their runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from seqjax.gradients import Batch, Full, init_memory

from .tasks import Feed, Task
from .training import BLOCKS, compile_run, tail

MOST_EXTENSIONS = 3
"""How many rates are added on each side of the grid at most, if the best one lies at its edge."""
MEASURED_AFTER, MEASURED_WINDOWS, DRAWS = 4, 3, 40
"""Bias and variance are measured after one fourth of a run, on three windows if the state is carried from one to the
next, with 40 draws of a random strategy."""


@dataclass(frozen=True)
class Settings:
    """What all runs share.

    Raises:
        Error: a seed is used for tuning and for counting.
    """

    updates: int
    """The number of updates of a run."""
    rates: tuple[float, ...]
    """The grid of learning rates."""
    untuned: float
    """The learning rate of those who do not tune."""
    tuning_seeds: tuple[int, ...]
    """The seeds with which a learning rate is chosen."""
    seeds: tuple[int, ...]
    """The seeds that count."""

    def __post_init__(self) -> None:
        if both := set(self.tuning_seeds) & set(self.seeds):
            raise sj.Error(
                f"the seeds {sorted(both)} choose a learning rate and count as well, so that the scores would be too "
                "good: choose other seeds"
            )


def measure(
    settings: Settings, task: Task, model: sj.Model | None, strategies: Mapping[str, sj.Gradient]
) -> dict[str, dict[str, float | None]]:
    """Seconds of an update, bias and variance of each strategy that takes a task.

    `core_share` is the share of the time that this process had its core. It is nearly 1 if no other program used it.
    The parameters are those after a part of a run with the full gradient: at the initial ones nearly the whole gradient
    is that of the read-out, which all strategies share.
    """
    problem, seed = task.problem(model), settings.tuning_seeds[0]
    before = task.feed(seed, max(BLOCKS, settings.updates // MEASURED_AFTER))
    params = compile_run(problem, Full(), before)(seed, settings.untuned, before).params
    feed = task.feed(seed + 1, MEASURED_WINDOWS)
    # A window that starts a sequence in every row has no history.
    windows = 1 if feed.reset[1:].any() else MEASURED_WINDOWS
    state = problem.init_rows(params, feed.reset.shape[1])

    def join(a: Any) -> Any:
        return a[:windows].reshape(-1, *a.shape[2:])

    usable = {name: strategy for name, strategy in strategies.items() if refusal(strategy, problem, feed) is None}
    began, began_on_core = time.perf_counter(), time.process_time()
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
    core_share = (time.process_time() - began_on_core) / (time.perf_counter() - began)
    columns = ("seconds", "history_bias", "history_bias_error", "variance", "cosine")
    return {
        name: {column: _finite(getattr(measured, column)[n]) for column in columns} | {"core_share": core_share}
        for n, name in enumerate(usable)
    }


def train(settings: Settings, task: Task, model: sj.Model | None, strategy: sj.Gradient) -> dict[str, Any]:
    """The losses of all runs of a strategy on a task, and the learning rate that was chosen."""
    problem = task.problem(model)
    first = task.feed(settings.tuning_seeds[0], settings.updates)
    if (reason := refusal(strategy, problem, first)) is not None:
        return {"refused": reason}
    run = compile_run(problem, strategy, first)

    def losses(seeds: tuple[int, ...], rate: float) -> list[list[float | None]]:
        return [[*map(_finite, run(seed, rate, task.feed(seed, settings.updates)).blocks)] for seed in seeds]

    tuning = {rate: losses(settings.tuning_seeds, rate) for rate in settings.rates}
    best = choose(tuning)
    for _ in range(MOST_EXTENSIONS):
        if (rate := beyond(best, tuning)) is None:
            break
        tuning[rate] = losses(settings.tuning_seeds, rate)
        best = choose(tuning)
    tuned = losses(settings.seeds, best)
    return {
        "refused": None,
        "rate": best,
        "tuning_seeds": settings.tuning_seeds,
        "seeds": settings.seeds,
        "tuning": [[rate, tuning[rate]] for rate in sorted(tuning)],
        "tuned": tuned,
        "untuned": tuned if best == settings.untuned else losses(settings.seeds, settings.untuned),
    }


def choose(tuning: Mapping[float, Any]) -> float:
    """The rate with the lowest mean tail over the seeds. A rate with which a run diverges is not chosen."""
    return min(tuning, key=lambda rate: (np.mean(tail(as_array(tuning[rate]))), rate))


def beyond(best: float, tuning: Mapping[float, Any]) -> float | None:
    """The next rate beyond the edge of the grid; None: the best one does not lie at an edge."""
    rates = sorted(tuning)
    if best not in (rates[0], rates[-1]):
        return None
    return rates[0] / (rates[1] / rates[0]) if best == rates[0] else rates[-1] * (rates[-1] / rates[-2])


def as_array(losses: Any) -> np.ndarray:
    """Losses from a file, float64; NaN where a loss was not finite."""
    return np.array(losses, np.float64)


def _finite(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


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

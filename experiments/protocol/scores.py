"""From the losses of all runs to scores, and to the tasks that are admitted."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

import seqjax as sj

from .compute import as_array
from .stages import FROZEN, Stages
from .statistics import Interval, score_interval
from .tasks import Task
from .training import BLOCKS, TAIL, tail

REFERENCE, IMMEDIATE = "full", "immediate"
"""The strategies that every edition has: the one with which others are compared, and the one of a single step."""
WORST = 1.0
"""The highest score, and that of a run that diverged."""
LARGEST = 1e30
"""A loss from here on counts as diverged."""


class RunsOfStrategy(NamedTuple):
    """The runs of a strategy on a problem, as scores.

    Args:
        tuned: with the learning rate that was chosen, float64[S].
        untuned: with that of those who do not tune, float64[S].
        blocks: those of the blocks of the tuned runs, which may be above 1, float64[S, BLOCKS].
        rate: the learning rate that was chosen.
        rates: all that were tried, float64[R].
        tuning: the mean score with each of them, over the seeds of tuning, float64[R].
    """

    tuned: np.ndarray
    untuned: np.ndarray
    blocks: np.ndarray
    rate: float
    rates: np.ndarray
    tuning: np.ndarray


class TaskScores(NamedTuple):
    """A task with a model, and the results of all strategies on it.

    Args:
        name: the name of the task, followed by that of the model if there are several models.
        task: the task.
        floor: the loss with the score 0.
        unit: the loss with the score 1.
        losses: strategy -> the tails of the runs that count, with their interval.
        status: "admitted", "control", or "not admitted: ", followed by the reason.
        runs: strategy -> its runs.
        refused: strategy -> why it does not take this problem.
        measures: strategy -> seconds of an update, bias, variance and cosine of its gradient, and `core_share`, the
            share of the time that the process had its core meanwhile, which is the same for all strategies.
        updates: the updates of a run.
        state_size: the numbers of a state.
    """

    name: str
    task: Task
    floor: float
    unit: float
    losses: dict[str, Interval]
    status: str
    runs: dict[str, RunsOfStrategy]
    refused: dict[str, str]
    measures: dict[str, dict[str, Any]]
    updates: int
    state_size: int

    def diverged(self, strategy: str) -> int:
        """How many of the runs of a strategy that count diverged."""
        return int(np.isinf(self.runs[strategy].blocks).any(1).sum())

    def at_equal_cost(self, strategy: str) -> np.ndarray:
        """The scores of a strategy after as many core-seconds as the whole run of `full` takes, float64[S]."""
        return score_after(self.runs[strategy].blocks, self.blocks_at_equal_cost(strategy))

    def blocks_at_equal_cost(self, strategy: str) -> int:
        """How many blocks of a run of a strategy the core-seconds of the whole run of `full` pay."""
        price, of_full = (self.measures[name]["seconds"] for name in (strategy, REFERENCE))
        # Without the small number, rounding would take a block from a strategy that can pay the whole run.
        return int(min(of_full / price, 1) * BLOCKS + 1e-9)


def score(stages: Stages) -> list[TaskScores]:
    """The scores of an edition whose stages have all been computed.

    Raises:
        Error: a result was tuned with a seed that counts.
    """
    short, found = _short_names(stages.models), []
    for stage in stages.measures:
        results = {
            each.strategy: stages.result(each)
            for each in stages.runs
            if (each.task, each.model) == (stage.task, stage.model)
        }
        name = f"{stage.task}, {short[stage.model]}" if stage.model and len(stages.models) > 1 else stage.task
        task, model = stages.tasks[stage.task], stages.models.get(stage.model)
        measures, state_size = stages.result(stage), _state_size(task, model)
        found.append(problem_of(name, task, results, measures or {}, stages.settings.updates, state_size))
    return found


def admitted(problems: list[TaskScores]) -> list[TaskScores]:
    """The problems that count."""
    return [problem for problem in problems if problem.status == "admitted"]


def at_equal_updates(problems: list[TaskScores]) -> dict[str, np.ndarray]:
    """Strategy -> its scores on all problems that count, float64[K, S]; only strategies that take all of them."""
    return _on_all(problems, lambda problem, name: problem.runs[name].tuned)


def at_equal_cost(problems: list[TaskScores]) -> dict[str, np.ndarray]:
    """The same after as many core-seconds as the whole run of `full` takes."""
    return _on_all(problems, TaskScores.at_equal_cost)


def _on_all(problems: list[TaskScores], scores: Callable[[TaskScores, str], np.ndarray]) -> dict[str, np.ndarray]:
    counted = admitted(problems)
    names = dict.fromkeys(name for problem in counted for name in problem.runs if name != FROZEN)
    return {
        name: np.stack([scores(problem, name) for problem in counted])
        for name in names
        if all(name in problem.runs for problem in counted)
    }


def _short_names(models: Iterable[str]) -> dict[str, str]:
    """The models by their plugins alone, such as "gru", unless two of them have the same plugin."""
    plugins = {model: model.partition(":")[0] for model in models}
    return plugins if len(set(plugins.values())) == len(plugins) else {model: model for model in plugins}


def _state_size(task: Task, model: sj.Model | None) -> int:
    problem = task.problem(model)
    state = jax.eval_shape(lambda key: problem.init_rows(problem.init(key), 1), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def problem_of(
    name: str, task: Task, results: dict[str, Any], measures: dict[str, Any], updates: int, state_size: int
) -> TaskScores:
    """What the losses on a problem mean, and whether it is admitted.

    Args:
        name: see `TaskScores`.
        task: see `TaskScores`.
        results: strategy -> what `compute.train` has found.
        measures: see `TaskScores`.
        updates: see `TaskScores`.
        state_size: see `TaskScores`.

    Raises:
        Error: a result was tuned with a seed that counts.
    """
    ran = {strategy: result for strategy, result in results.items() if result["refused"] is None}
    for strategy, result in ran.items():
        if set(result["tuning_seeds"]) & set(result["seeds"]):
            raise sj.Error(f"{strategy} on {name} was tuned with seeds that count; its scores are refused")
    tails = {strategy: tail(as_array(result["tuned"])) for strategy, result in ran.items()}
    losses = {strategy: score_interval(np.minimum(each, LARGEST)[None]) for strategy, each in tails.items()}
    frozen, full = losses[FROZEN].value, losses[REFERENCE].value
    floor = full if task.floor is None else task.floor
    # If nothing can be learned, there is no loss of a model that has learned nothing: the unit is the floor itself.
    unit = 2 * floor if task.floor is not None and task.floor == task.chance else frozen
    if task.is_control:
        status = "control"
    elif lost := [each for each in (FROZEN, IMMEDIATE) if losses[REFERENCE].high >= losses[each].low]:
        status = f"not admitted: the interval of {REFERENCE} is not below that of {' and '.join(lost)}"
    else:
        status = "admitted"
    refused = {strategy: result["refused"] for strategy, result in results.items() if result["refused"] is not None}
    runs = {strategy: _runs(result, floor, unit) for strategy, result in ran.items()}
    return TaskScores(name, task, floor, unit, losses, status, runs, refused, measures, updates, state_size)


def _runs(result: dict[str, Any], floor: float, unit: float) -> RunsOfStrategy:
    tuned, untuned = as_array(result["tuned"]), as_array(result["untuned"])
    rates, losses = zip(*result["tuning"], strict=True)
    return RunsOfStrategy(
        tuned=bounded(relative(tail(tuned), floor, unit)),
        untuned=bounded(relative(tail(untuned), floor, unit)),
        blocks=relative(tuned, floor, unit),
        rate=result["rate"],
        rates=np.array(rates),
        tuning=bounded(relative(tail(as_array(losses)), floor, unit)).mean(1),
    )


def relative(losses: np.ndarray, floor: float, unit: float) -> np.ndarray:
    """(loss - floor) / (unit - floor); inf for a loss that is not finite.

    If no floor is known, it is the loss of `full`. If that of `frozen` is lower, nothing was learned: all scores are 1.
    """
    if unit <= floor:
        return np.full(losses.shape, WORST)
    known = np.isfinite(losses) & (losses < LARGEST)
    return np.where(known, (np.where(known, losses, 0) - floor) / (unit - floor), np.inf)


def bounded(scores: np.ndarray) -> np.ndarray:
    """Scores that are at most 1."""
    return np.minimum(scores, WORST)


def updates_to(blocks_SN: np.ndarray, target: float, updates: int) -> float:
    """The median over the seeds of the number of updates until a block has a score of at most `target`; inf: never."""
    reached = blocks_SN <= target
    first = np.where(reached.any(1), (reached.argmax(1) + 1) * updates / blocks_SN.shape[1], np.inf)
    return float(np.median(first))


def score_after(blocks_SN: np.ndarray, num_blocks: int) -> np.ndarray:
    """The scores after so many blocks, medians of the last fifth of them; 1 after none, float64[S]."""
    last = max(1, num_blocks * TAIL // BLOCKS)
    if not num_blocks:
        return np.full(len(blocks_SN), WORST)
    return bounded(np.median(blocks_SN[:, num_blocks - last : num_blocks], 1))

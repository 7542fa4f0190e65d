"""From the losses of all runs to scores, and to the tasks that are admitted."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import seqjax as sj

from .stages import FROZEN, Stages, as_array
from .statistics import Interval, iqm, iqm_interval
from .training import TAIL, tail

REFERENCE, IMMEDIATE = "full", "immediate"
"""The strategies that every edition has: the one with which others are compared, and the one of a single step."""
WORST = 1.0
"""The highest score, and that of a run that diverged."""
LARGEST = 1e30
"""A loss from here on counts as diverged."""


class Problem(NamedTuple):
    """A task with a model, and what its losses mean.

    Args:
        task: the name of the task.
        model: the name of the model; "": the task has none, or there is one model alone.
        floor: the loss with the score 0.
        reference: the loss with the score 1.
        losses: strategy -> the tails of the runs that count, with its interval.
        status: "admitted", "control", or why it is not admitted.
    """

    task: str
    model: str
    floor: float
    reference: float
    losses: dict[str, Interval]
    status: str

    def __str__(self) -> str:
        return f"{self.task}, {self.model}" if self.model else self.task

    def score(self, losses: np.ndarray) -> np.ndarray:
        """(loss - floor) / (reference - floor), at most 1; a loss that is not finite has the score 1."""
        known = np.isfinite(losses) & (losses < LARGEST)
        scores = (np.where(known, losses, 0) - self.floor) / (self.reference - self.floor)
        return np.where(known, np.minimum(scores, WORST), WORST)


class Scores(NamedTuple):
    """The scores of all strategies.

    Args:
        problems: the problems by name.
        tuned: problem -> strategy -> float64[S], with the learning rate that was chosen.
        untuned: the same with the learning rate of those who do not tune.
        blocks: problem -> strategy -> float64[S, BLOCKS], along the updates of a run.
        tuning: problem -> strategy -> (rates [R], scores float64[R]), means over the seeds of tuning.
        rates: problem -> strategy -> the rate that was chosen.
        refused: problem -> strategy -> why it does not take the problem.
    """

    problems: dict[str, Problem]
    tuned: dict[str, dict[str, np.ndarray]]
    untuned: dict[str, dict[str, np.ndarray]]
    blocks: dict[str, dict[str, np.ndarray]]
    tuning: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
    rates: dict[str, dict[str, float]]
    refused: dict[str, dict[str, str]]

    @property
    def admitted(self) -> list[str]:
        """The names of the problems that count."""
        return [name for name, problem in self.problems.items() if problem.status == "admitted"]

    def complete(self) -> dict[str, np.ndarray]:
        """Strategy -> its scores on all admitted problems, float64[K, S]; only strategies that take all of them."""
        names = self.admitted
        strategies = dict.fromkeys(strategy for name in names for strategy in self.tuned[name])
        return {
            strategy: np.stack([self.tuned[name][strategy] for name in names])
            for strategy in strategies
            if all(strategy in self.tuned[name] for name in names)
        }


def score(stages: Stages) -> Scores:
    """The scores of an edition whose stages have all been computed.

    Raises:
        Error: a result was tuned with a seed that counts.
    """
    scores = Scores({}, {}, {}, {}, {}, {}, {})
    for task, model in stages.problems:
        results = {
            stage.strategy: stages.result(stage) for stage in stages.runs if (stage.task, stage.model) == (task, model)
        }
        _add(scores, stages, task, model if len(stages.models) > 1 else "", results)
    return scores


def _add(scores: Scores, stages: Stages, task: str, model: str, results: Mapping[str, Any]) -> None:
    ran = {}
    for strategy, result in results.items():
        if result["refused"] is None:
            if set(result["tuning_seeds"]) & set(result["seeds"]):
                raise sj.Error(f"{strategy} on {task} was tuned with seeds that count; its scores are refused")
            ran[strategy] = result
    tails = {strategy: tail(as_array(result["tuned"])) for strategy, result in ran.items()}
    problem = _problem(stages.tasks[task], task, model, tails)
    name = str(problem)
    scores.problems[name] = problem
    scores.refused[name] = {strategy: result["refused"] for strategy, result in results.items() if result["refused"]}
    for strategy, result in ran.items():
        scores.tuned.setdefault(name, {})[strategy] = problem.score(tails[strategy])
        scores.untuned.setdefault(name, {})[strategy] = problem.score(tail(as_array(result["untuned"])))
        scores.blocks.setdefault(name, {})[strategy] = problem.score(as_array(result["tuned"]))
        rates, losses = zip(*result["tuning"], strict=True)
        means = problem.score(tail(as_array(losses))).mean(1)
        scores.tuning.setdefault(name, {})[strategy] = np.array(rates), means
        scores.rates.setdefault(name, {})[strategy] = result["rate"]


def _problem(task: Any, name: str, model: str, tails: Mapping[str, np.ndarray]) -> Problem:
    """What the losses of a problem mean, and whether it is admitted."""
    losses = {strategy: iqm_interval(np.minimum(each, LARGEST)[None]) for strategy, each in tails.items()}
    frozen, full = (float(iqm(np.minimum(tails[each], LARGEST))) for each in (FROZEN, REFERENCE))
    floor = full if task.floor is None else task.floor
    # If nothing can be learned, there is no loss of a model that has learned nothing: the unit is the floor itself.
    reference = 2 * floor if task.floor is not None and task.floor == task.chance else frozen
    if task.is_control:
        status = "control"
    elif lost := [each for each in (FROZEN, IMMEDIATE) if losses[REFERENCE].high >= losses[each].low]:
        status = f"not admitted: the interval of {REFERENCE} is not below that of {' and '.join(lost)}"
    else:
        status = "admitted"
    return Problem(name, model, floor, reference, losses, status)


def updates_to(blocks_SN: np.ndarray, target: float, updates: int) -> float:
    """The median over the seeds of the number of updates until a block has a score of at most `target`; inf: never."""
    reached = blocks_SN <= target
    first = np.where(reached.any(1), (reached.argmax(1) + 1) * updates / blocks_SN.shape[1], np.inf)
    return float(np.median(first))


def at_cost(blocks_SN: np.ndarray, price: float, cost: float, updates: int) -> np.ndarray:
    """The scores after core-seconds `cost`, the median of the blocks before that; 1 if there is none, float64[S].

    Args:
        blocks_SN: float64[S, BLOCKS].
        price: seconds of an update.
        cost: the core-seconds that are spent.
        updates: the updates of a whole run.
    """
    done = int(min(cost / price, updates) / updates * blocks_SN.shape[1])
    return np.full(len(blocks_SN), WORST) if done < TAIL else np.median(blocks_SN[:, done - TAIL : done], 1)

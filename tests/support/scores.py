"""Problems of the referee with losses that are made up: the floor is 0, and the loss of `frozen` 1."""

import dataclasses

import numpy as np
from protocol.compute import Settings
from protocol.problems import Problem, Window
from protocol.scores import Candidate, Contender, problem_of
from protocol.tasks import TASKS, InfluenceBalancing
from protocol.training import BLOCKS

SEEDS = np.arange(10)
SETTINGS = Settings(rates=(0.001, 0.003), clips=(1.0,), optimizer="adam", seeds=tuple(range(10)))


def runs(score, first_block=0):
    """Runs of one candidate, whose losses are these from one of their blocks on, and 1 before it.

    A number has a small spread over the seeds.
    """
    tails = score + 0.0001 * SEEDS if np.ndim(score) == 0 else np.asarray(score)
    blocks = np.where(np.arange(BLOCKS) < first_block, 1.0, tails[:, None])
    return Contender([Candidate("", 24, 0.003, 1.0, 0.0, False)], blocks[None])


def problem(name, contenders, prices=None, windows=(24,), model="rnn", task=None):
    """A problem with these contenders, by strategy, or by strategy and window if there are several windows."""
    task = dataclasses.replace(TASKS["add"], dataset=None) if task is None else task
    sized = [Window(name, _Sized(task, window), None, 100, SETTINGS) for window in windows]
    made = Problem("stream" if len(windows) > 1 else "covered", name, model, 16, tuple(sized), (), False)
    strategies = {each: (each.partition(" @")[0], int(each.partition("@ ")[2] or windows[-1])) for each in contenders}
    of_each = {
        each: {"seconds": (prices or {}).get(each, 1.0), "carried": 100, "temporaries": 0, "core_share": 1.0}
        for each in contenders
    }
    return problem_of(made, contenders, strategies, {}, of_each, {})


class _Sized:
    """A task with the floor 0 and another window."""

    floor, chance = 0.0, None

    def __init__(self, task, window):
        self.is_diagnostic, self.window = isinstance(task, InfluenceBalancing), window


def made_up(**strategies):
    """Contenders with these losses, and those that every problem has."""
    scores = {"frozen": 1.0, "twin": 0.2, "wrong-sign": 1.0, "full": 0.2, "immediate": 0.8, **strategies}
    return {name: score if isinstance(score, Contender) else runs(score) for name, score in scores.items()}

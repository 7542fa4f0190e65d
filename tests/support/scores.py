"""Problems of the referee with scores that are made up."""

import numpy as np
from protocol.scores import RunsOfStrategy, TaskScores
from protocol.statistics import Interval
from protocol.tasks import TASKS
from protocol.training import BLOCKS

SEEDS = np.arange(10)


def runs(score, first_block=0):
    """Runs that have this score from one of their blocks on, and 1 before it, with a small spread over the seeds."""
    tuned = score + 0.0001 * SEEDS
    blocks = np.where(np.arange(BLOCKS) < first_block, 1.0, tuned[:, None])
    return RunsOfStrategy(tuned, tuned, blocks, 0.003, np.array([0.001, 0.003]), np.array([1.0, score]))


def problem(name, scores, status="admitted", prices=None):
    measures = {
        each: {
            "seconds": (prices or {}).get(each, 1.0),
            "history_bias": 0.5,
            "history_bias_error": 0.0,
            "variance": None,
            "cosine": 1.0,
            "core_share": 1.0,
        }
        for each in scores
    }
    losses = dict.fromkeys(scores, Interval(0, 0, 0))
    return TaskScores(name, TASKS["add"], 0.0, 1.0, losses, status, scores, {}, measures, updates=100, state_size=32)


def made_up(**strategies):
    return {name: runs(score) for name, score in {"frozen": 1, "full": 0.2, "immediate": 0.8, **strategies}.items()}

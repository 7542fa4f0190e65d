"""Checks a result that somebody else has computed."""

from pathlib import Path

import numpy as np

import seqjax as sj
from seqjax.files import disk_errors, read_plain

from .compute import as_array
from .stages import Stages, decode
from .training import compile_run

REPEATED, AGREES = 3, 1e-3
"""How many runs are repeated, and the largest relative difference of the losses of their first blocks."""


def check_row(stages: Stages, file: Path) -> str:
    """What is right about a file of runs, as a sentence.

    Its name has the hash of the strategy, its code, the task and the settings; the file has the hash of its name and
    its content. So it is one of the results that this command would compute. Some of its runs are repeated.

    Args:
        stages: the stages of this command.
        file: the file of a result of the kind "runs".

    Raises:
        Error: exit code 4: it is none of these results, or damaged, or a repeated run has other losses.
    """
    found = [stage for stage in stages.all if stage.kind == "runs" and stages.file(stage).name == file.name]
    if not found:
        raise sj.Error(
            f"{file.name} is no result of this command. Give the flags with which it was computed, and load the same "
            "file of the strategy: the name has the hash of both, and of the version of seqjax",
            exit_code=4,
        )
    with disk_errors(file):
        result = decode(file, read_plain(file))
    if result["refused"] is not None:
        return f"{file.name}: the strategy does not take this problem: {result['refused']}"
    window, strategy = found[0].window, stages.strategies[found[0].strategies[0]]
    problem, seeds = window.task.problem(window.model), result["seeds"]
    run = compile_run(problem, strategy, window.task.feed(seeds[0], window.updates), window.settings.optimizer)
    # Without a seed, so that the sender cannot know which runs will be repeated.
    rng = np.random.default_rng()
    for _ in range(REPEATED):
        row, column = rng.integers(len(result["runs"])), rng.integers(len(seeds))
        seed, runs = seeds[column], result["runs"][row]
        here = run(seed, runs["rate"], runs["clip"], window.task.feed(seed, window.updates)).blocks[0]
        there = as_array(runs["blocks"])[column, 0]
        if not np.isclose(here, there, rtol=AGREES, equal_nan=True):
            raise sj.Error(
                f"{file.name}: with seed {seed} and the rate {runs['rate']:g} the loss of the first block is "
                f"{here:.6g}, and the file says {there:.6g}",
                exit_code=4,
            )
    num_runs = len(result["runs"]) * len(seeds)
    return (
        f"{file.name} is whole, and has {num_runs} runs of this strategy with these settings. {REPEATED} of them were "
        "repeated, and have the same losses in their first block"
    )

"""Checks results that somebody else has computed."""

from pathlib import Path
from typing import Any

import numpy as np

import seqjax as sj
from seqjax.errors import few
from seqjax.files import read_named

from .compute import MOST_CLIPPED, Settings, as_array, refusal, search
from .scores import contender_of
from .stages import DAMAGED, Stage, Stages, decode
from .training import BLOCKS, compile_run

REPEATED = 3
"""How many runs of a file are repeated."""
AGREES, TIMES, COPIES = 1e-3, 5, 3
"""Two runs agree if each block differs by no more than this relative difference, plus this many times what rounding
changes, which is measured on so many runs whose learning rates differ in the last place."""


def check_row(stages: Stages, row: Path) -> str:
    """What is right about the files of a row, a line for each.

    Args:
        stages: the stages of this command.
        row: the file of a result of the kind "runs", or a folder of them.

    Raises:
        Error: exit code 4: a file is no result of this command, is damaged, lacks runs, or a repeated run has other
            losses; 6: it cannot be read.
    """
    files = sorted(row.glob("runs-*.json")) if row.is_dir() else [row]
    if not files:
        raise sj.Error(f"{row} has no file runs-....json: give the folder `stages` of the row, or one of its files")
    return "\n".join(_check_file(stages, file) for file in files)


def _check_file(stages: Stages, file: Path) -> str:
    """What is right about one file.

    Its name has the hash of the strategy, its code, the task and the settings; the file has the hash of its name and
    its content. A sender can compute both hashes, so that runs are repeated.
    """
    try:
        data = read_named(file)
    except OSError as fault:
        raise sj.Error(f"--check: {file} cannot be read: {fault.strerror}", exit_code=6) from fault
    stage, result = _stage_of(stages, file), decode(file.name, data)
    if result is None:
        raise _wrong(file, f"it is {DAMAGED}")
    window, strategy = stage.window, stages.strategies[stage.strategies[0]]
    settings = window.settings
    problem, feed = window.task.problem(window.model), window.task.feed(settings.seeds[0], window.updates)
    reason = refusal(strategy, problem, feed)
    if not isinstance(result, dict) or result.get("refused") != reason:
        raise _wrong(file, f"it does not say, as this machine does, that the strategy {_takes(reason)}")
    if reason is not None:
        return f"{file.name}: the strategy does not take this problem: {reason}"
    if missing := _missing(result, settings):
        raise _wrong(file, missing)
    # The runs that count: an invented number in another one would not help the sender.
    chosen = contender_of([("", window.task.window, result)]).chosen()
    run = compile_run(problem, strategy, feed, settings.optimizer)
    # Without a seed, so that the sender cannot know which runs will be repeated.
    for column in np.random.default_rng().choice(len(chosen), min(REPEATED, len(chosen)), replace=False):
        seed, runs = settings.seeds[column], result["runs"][chosen[column]]
        feed = window.task.feed(seed, window.updates)
        rates = np.float32(runs["rate"]) * (1 + np.arange(COPIES + 1) * np.float32(2) ** -22)
        here, *copies = (run(seed, float(rate), runs["clip"], feed).blocks for rate in rates)
        there = as_array(runs["blocks"][column])
        if (block := _first_difference(here, np.array(copies), there)) is not None:
            raise _wrong(
                file,
                f"with seed {seed} and the rate {runs['rate']:g} the loss of block {block + 1} of {BLOCKS} is "
                f"{here[block]:.6g}, and the file says {there[block]:.6g}",
            )
    return (
        f"{file.name} is whole, and has {len(result['runs']) * len(settings.seeds)} runs of this strategy with these "
        f"settings. {REPEATED} of those that count were repeated, and have the same losses but for rounding"
    )


def _stage_of(stages: Stages, file: Path) -> Stage:
    found = {stages.file(stage).name: stage for stage in stages.all if stage.kind == "runs"}
    if file.name not in found:
        raise sj.Error(
            f"{file.name} has none of the runs of this command. Only files runs-....json are checked: prices belong to "
            "a machine. Give the flags with which it was computed, which are on its page, and load the same file of "
            "the strategy: the name has the hash of both, and of the version of seqjax",
            exit_code=4,
        )
    return found[file.name]


def _missing(result: dict[str, Any], settings: Settings) -> str:
    """What a result lacks, or has too much; "": nothing."""
    if result.get("seeds") != list(settings.seeds):
        return f"its seeds are {few(map(str, result.get('seeds') or []))}, and not {few(map(str, settings.seeds))}"
    try:
        runs = {(each["rate"], each["clip"]): each for each in result["runs"]}
        shapes = {as_array(each["blocks"]).shape for each in runs.values()}
        # The same search again, which reads the runs that it needs.
        first, *others = settings.clips
        needed = search(lambda rate: runs[rate, first], settings.rates)
        if np.mean([each["clipped"] for each in needed]) > MOST_CLIPPED:
            for clip in others:
                needed += search(lambda rate, clip=clip: runs[rate, clip], settings.rates)
    except (KeyError, TypeError, ValueError) as fault:
        return f"it lacks runs, or a part of one: {type(fault).__name__} {fault}"
    if shapes != {(len(settings.seeds), BLOCKS)} or len(needed) != len(result["runs"]):
        return f"its runs are not those of {len(settings.seeds)} seeds with these rates and clips"
    return ""


def _first_difference(here_N: np.ndarray, copies_CN: np.ndarray, there_N: np.ndarray) -> int | None:
    """The first block with another loss than rounding explains; None: there is none.

    What rounding changes grows from block to block, since training is chaotic. A copy of the run tells how much.
    """
    by_rounding_N = np.maximum.accumulate(np.abs(copies_CN - here_N).max(0))
    differs_N = np.abs(there_N - here_N) > AGREES * np.abs(here_N) + TIMES * by_rounding_N
    # After a run has diverged, nothing is compared.
    finite_N = np.logical_and.accumulate(np.isfinite(here_N) & np.isfinite(copies_CN).all(0))
    differs_N = finite_N & (differs_N | ~np.isfinite(there_N))
    return int(differs_N.argmax()) if differs_N.any() else None


def _takes(reason: str | None) -> str:
    return "takes this problem" if reason is None else f"does not take this problem: {reason}"


def _wrong(file: Path, reason: str) -> sj.Error:
    return sj.Error(f"{file.name}: {reason}. Do not use it, and ask the sender for the file again", exit_code=4)

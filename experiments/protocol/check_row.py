"""Checks results that somebody else has computed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import seqjax as sj
from seqjax.errors import few
from seqjax.files import read_named

from .compute import MOST_CLIPPED, Settings, as_array, refusal, search
from .scores import Contender, contender_of
from .stages import DAMAGED, Stage, Stages, decode
from .tasks import Feed
from .training import BLOCKS, Trained, compile_run

REPEATED = 10
"""How many runs of a file that count are repeated, and how many of the others."""
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
    known = {stages.file(stage).name: stage for stage in stages.all if stage.kind == "runs"}
    lines = [_check_file(stages, known, file) for file in files]
    names = {known[file.name].strategies for file in files}
    whole = sum(stage.strategies in names for stage in known.values())
    return "\n".join([*lines, f"The row has {len(files)} of the {whole} results of its strategies."])


def _check_file(stages: Stages, known: Mapping[str, Stage], file: Path) -> str:
    """What is right about one file; `known` has the stages by the names of their files.

    Its name has the hash of the strategy, its code, the task and the settings; the file has the hash of its name and
    its content. A sender can compute both hashes, so that runs are repeated.
    """
    try:
        data = read_named(file)
    except OSError as fault:
        raise sj.Error(f"--check: {file} cannot be read: {fault.strerror}", exit_code=6) from fault
    if (stage := known.get(file.name)) is None:
        raise sj.Error(
            f"{file.name} is no result of this command. Only files runs-....json are checked: prices belong to a "
            "machine. Give the flags with which it was computed, which are on its page, and load the same file of the "
            "strategy: the name has the hash of both, and of the version of seqjax",
            exit_code=4,
        )
    if (result := decode(file.name, data)) is None:
        raise _wrong(file, f"it is {DAMAGED}")
    window, strategy = stage.window, stages.strategies[stage.strategies[0]]
    settings = window.settings
    problem, feed = window.task.problem(window.model), window.task.feed(settings.seeds[0], window.updates)
    reason = refusal(strategy, problem, feed)
    if not isinstance(result, dict) or result.get("refused", "") != reason:
        takes = "takes this problem" if reason is None else f"does not take this problem: {reason}"
        raise _wrong(file, f"here the strategy {takes}, and the file says something else")
    if reason is not None:
        return f"{file.name}: the strategy does not take this problem: {reason}."
    if missing := _missing(result, settings):
        raise _wrong(file, missing)
    run = compile_run(problem, strategy, feed, settings.optimizer)
    repeated = _drawn(contender_of([("", window.task.window, result)]))
    for candidate, column in repeated:
        seed, runs = settings.seeds[column], result["runs"][candidate]
        feed = window.task.feed(seed, window.updates)
        if wrong := _differs(run, seed, feed, runs, column):
            raise _wrong(file, f"with seed {seed}, the rate {runs['rate']:g} and {_clip(runs['clip'])}, {wrong}")
    return (
        f"{file.name} is whole, and has {len(result['runs']) * len(settings.seeds)} runs of this strategy with these "
        f"settings. {len(repeated)} of them were repeated, and have the same losses but for rounding."
    )


def _missing(result: dict[str, Any], settings: Settings) -> str:
    """What a result lacks, or has too much; "": nothing."""
    seeds = list(settings.seeds)
    if result.get("seeds") != seeds:
        return f"its seeds are not {few(map(str, seeds))}"
    if not isinstance(result.get("runs"), list) or not all(_is_run(each, len(seeds)) for each in result["runs"]):
        return (
            "one of its runs does not have a rate, a clip, the share of the updates that were clipped, and "
            f"{BLOCKS} losses for each of {len(seeds)} seeds"
        )
    runs = {(each["rate"], each["clip"]): each for each in result["runs"]}

    def stored(rate: float, clip: float | None) -> dict[str, Any]:
        if (rate, clip) not in runs:
            raise LookupError(f"the runs with the rate {rate:g} and {_clip(clip)} are left out")
        return runs[rate, clip]

    first, *others = settings.clips
    try:
        # The search of `compute.train` again, which reads the runs that it needs. It is not shared, since a change of
        # that file would let all results be computed again.
        needed = search(lambda rate: stored(rate, first), settings.rates)
        if np.mean([each["clipped"] for each in needed]) > MOST_CLIPPED:
            for clip in others:
                needed += search(lambda rate, clip=clip: stored(rate, clip), settings.rates)
    except LookupError as fault:
        return str(fault.args[0])
    return "it has runs that do not belong to it" if len(needed) != len(result["runs"]) else ""


def _is_run(each: Any, num_seeds: int) -> bool:
    """Whether this has the form of the runs with one rate and one clip."""
    try:
        numbers = [each["rate"], each["clipped"], 0.0 if each["clip"] is None else each["clip"]]
        losses = as_array(each["blocks"])
    except (LookupError, TypeError, ValueError):
        return False
    are_numbers = all(isinstance(number, float) for number in numbers)
    return are_numbers and losses.shape == (num_seeds, BLOCKS) and 0 <= each["clipped"] <= 1


def _drawn(contender: Contender) -> list[tuple[int, int]]:
    """The runs that are repeated, each a candidate and a seed: some that count with any budget, and some others.

    The others help to choose those that count. There is no seed, so that the sender cannot know what is drawn.
    """
    num_candidates, num_seeds, _ = contender.losses.shape
    counting = {(n, s) for blocks in range(1, BLOCKS + 1) for s, n in enumerate(contender.chosen(blocks))}
    others = {(n, s) for n in range(num_candidates) for s in range(num_seeds)} - counting
    rng = np.random.default_rng()
    groups = [sorted(counting), sorted(others)]
    return [
        group[index] for group in groups for index in rng.choice(len(group), min(REPEATED, len(group)), replace=False)
    ]


def _differs(run: Callable[..., Trained], seed: int, feed: Feed, runs: dict[str, Any], column: int) -> str:
    """What of a run in a file is not that of the same run here; "": nothing.

    Args:
        run: what `compile_run` gives.
        seed: the seed.
        feed: the data of this seed.
        runs: the runs of the file with its rate and clip.
        column: the index of the seed.
    """
    trained, there = run(seed, runs["rate"], runs["clip"], feed), as_array(runs["blocks"][column])
    here, num_seeds = trained.blocks, len(runs["blocks"])
    # The file has the mean over the seeds, each of whose shares is between 0 and 1.
    least, most = trained.clipped / num_seeds, (trained.clipped + num_seeds - 1) / num_seeds
    if not least - AGREES <= runs["clipped"] <= most + AGREES:
        return (
            f"{trained.clipped:.3f} of the updates are clipped, and the file says {runs['clipped']:.3f} for all seeds"
        )
    if _first_difference(here, here[None], there) is None:
        return ""
    # What rounding changes is measured only where something differs, since that takes more runs.
    rates = np.float32(runs["rate"]) * (1 + np.arange(1, COPIES + 1) * np.float32(2) ** -22)
    copies = np.array([run(seed, float(rate), runs["clip"], feed).blocks for rate in rates])
    if (block := _first_difference(here, copies, there)) is None:
        return ""
    return f"the loss of block {block + 1} of {BLOCKS} is {here[block]:.6g}, and the file says {there[block]:.6g}"


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


def _clip(clip: float | None) -> str:
    return "no clip" if clip is None else f"the clip {clip:g}"


def _wrong(file: Path, reason: str) -> sj.Error:
    return sj.Error(f"{file.name}: {reason}. Do not use it, and ask the sender for the file again", exit_code=4)

"""Checks results that somebody else has computed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import seqjax as sj
from seqjax.errors import counted, few
from seqjax.files import read_named

from .compute import MOST_CLIPPED, Settings, as_array, refusal, search
from .repeat import named, repeat
from .stages import DAMAGED, Stage, Stages, decode
from .statistics import LEVEL, holm, sign_test
from .training import BLOCKS, compile_run


class Checked(NamedTuple):
    """One file that was checked.

    Args:
        text: what is right about it.
        differences: those of `Repetition`.
    """

    text: str
    differences: list[tuple[float, float]]


def check_row(stages: Stages, row: Path, entered: Sequence[str] = ()) -> str:
    """What is right about the files of a row, a line for each.

    Args:
        stages: the stages of this command.
        row: the file of a result of the kind "runs", or a folder of them.
        entered: the strategies that belong together: if the row has one of them, it should have all.

    Raises:
        Error: exit code 4: a file is no result of this command, is damaged, lacks runs, or a repeated run has other
            losses; 6: it cannot be read.
    """
    files = sorted(row.glob("runs-*.json")) if row.is_dir() else [row]
    if not files:
        raise sj.Error(f"{row} has no file runs-....json: give the folder `stages` of the row, or one of its files")
    known = {stages.file(stage).name: stage for stage in stages.all if stage.kind == "runs"}
    checked = {file.name: _check_file(stages, known, file) for file in files}
    _check_averages({name: each.differences for name, each in checked.items()})
    names = {known[name].strategies[0] for name in checked}
    names |= {*entered} if names & {*entered} else set()
    missing = [str(stage) for name, stage in known.items() if stage.strategies[0] in names and name not in checked]
    text = f"The row has {len(checked)} of the {len(checked) + len(missing)} results of its strategies"
    return "\n".join(
        [*(each.text for each in checked.values()), f"{text}, without {few(missing)}." if missing else f"{text}."]
    )


def _check_averages(differences: Mapping[str, list[tuple[float, float]]]) -> None:
    """Checks that the losses of chaotic runs are not lower on average in the files than here.

    Args:
        differences: file -> those of `Repetition`.
    """
    groups = {"the row": [each for found in differences.values() for each in found]}
    groups |= differences if len(differences) > 1 else {}
    # Both differences of a run are tested, since they find different changes.
    samples = [(name, np.array(sample)) for name, found in groups.items() for sample in zip(*found, strict=True)]
    # Rounding lets a loss be higher as often as lower, so that each difference is as likely as its negative.
    p_values = holm([sign_test(sample[None]) for _, sample in samples])
    for (name, sample), p in zip(samples, p_values, strict=True):
        if p <= LEVEL and (mean := sample.mean()) < 0:
            raise sj.Error(
                f"{name}: the losses of {len(sample)} repeated runs, in which training is chaotic, are on average "
                f"{100 * -mean:.2g} % lower in the file than here (p = {p:.2g}). An honest row has this in less than "
                f"one of {2 / LEVEL:.0f} checks. Type the command again, and other runs are drawn: if a second check "
                "says it, too, do not use the row",
                exit_code=4,
            )


def _check_file(stages: Stages, known: Mapping[str, Stage], file: Path) -> Checked:
    """Checks one file; `known` has the stages by the names of their files.

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
            "strategy. The name has the hash of both, of the versions of seqjax and jax, and of the code of the "
            "referee",
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
        return Checked(f"{file.name}: the strategy does not take this problem: {reason}.", [])
    if missing := _missing(result, settings):
        raise _wrong(file, missing)
    run = compile_run(problem, strategy, feed, settings.optimizer)
    repeated = repeat(run, lambda seed: window.task.feed(seed, window.updates), settings.seeds, result)
    if repeated.wrong:
        raise _wrong(file, repeated.wrong)
    text = (
        f"{file.name} is whole, and has {len(result['runs']) * len(settings.seeds)} runs of this strategy with these "
        f"settings. {repeated.num_repeated} of them were repeated, and have the same losses but for rounding"
    )
    if repeated.num_chaotic:
        text += (
            f". In {counted(repeated.num_chaotic, 'run')} of these, rounding changes the later losses so much that "
            "they were compared on average alone"
        )
    return Checked(f"{text}.", repeated.differences)


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
            raise LookupError(f"the runs with {named({'rate': rate, 'clip': clip})} are left out")
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
    # The loop that removes finds what is there twice, too.
    left = [*result["runs"]]
    for each in needed:
        left.remove(each)
    return f"it has runs that do not belong to it: with {few(map(named, left))}" if left else ""


def _is_run(each: Any, num_seeds: int) -> bool:
    """Whether this has the form of the runs with one rate and one clip."""
    try:
        losses = as_array(each["blocks"])
        # None is no clip, or a loss that was not finite.
        numbers = [each["clip"], *(loss for row in each["blocks"] for loss in row)]
        numbers = [each["rate"], each["clipped"], *(number for number in numbers if number is not None)]
    except (LookupError, TypeError, ValueError):
        return False
    are_numbers = all(isinstance(number, float) for number in numbers)
    return are_numbers and losses.shape == (num_seeds, BLOCKS) and 0 <= each["clipped"] <= 1


def _wrong(file: Path, reason: str) -> sj.Error:
    return sj.Error(f"{file.name}: {reason}. Do not use it, and ask the sender for the file again", exit_code=4)

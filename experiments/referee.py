"""Which gradient through time is worth its price?   python experiments/referee.py

Each strategy trains the same network on the same data, from the same initial parameters, with Adam on gradients that
are clipped to the norm 1. There is one update for each window of the data; what some strategies gain from an update
after every step is not compared. The learning rate is chosen for each strategy and task from the same seven rates, by
the mean loss of two seeds that do not count. If the best rate lies at an edge, up to three further rates are added
there. The seeds that count are others.

The loss of an update is that of the task before the parameters change, whatever loss a strategy reports. The loss of a
run is the median of the means of its last four blocks, each of which is one twentieth of the updates. The data of a run
are new in each update, but for `permuted-digits` and other datasets of a fixed length.

The score of a run is (loss - floor) / (loss of `frozen` - floor). `frozen` trains the read-out of the network, and
leaves the recurrence as it was. The floor is the lowest possible loss of the task. Where it is not known, as on
`permuted-digits`, the floor is the loss of `full`, whose score is 0 by definition. Where there is nothing to learn, as
on `iid`, the score 1 is at twice the floor. The floor and the loss of `frozen` count as known, and their error is in no
interval. A run that diverges has the score 1, and no score is higher.

A task counts only if `full` has a lower loss than `frozen` and `immediate`, with disjoint 95 % intervals. The controls,
on which all strategies are expected to tie, do not count.

All strategies have the same seeds, so that their scores are paired. Intervals are those of a bootstrap that resamples
the seeds within each task, widened for few seeds. A p value is the share of all changes of the signs of the differences
that give a mean as far from zero: of all 1,024 changes for ten differences, and of 20,000 random ones for more than
twelve. It is corrected by the method of Holm for the comparisons with `full`, or for all pairs where pairs are
compared. Two strategies tie if the whole interval of their difference lies within ± .05. One is better if they do not
tie, the corrected p value is at most .05, and the interval excludes zero. All else is undecided.

The price of an update is the median time of its gradient on one core of a machine that does nothing else: if other
programs used the core, the page says so. The time of compiling is not part of it. It is measured apart from the runs,
with bias and variance, after a quarter of a run with `full`. With equally many core-seconds, a strategy has made as
many updates as the core-seconds of a whole run of `full` pay, with the learning rate that is best for a whole run. Its
loss is the median of the last fifth of the blocks that are paid. If no block is paid, the score is set to 1.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval
from protocol import workers
from protocol.compute import Settings
from protocol.conclusions import sentences
from protocol.page import check_folder, page
from protocol.scores import IMMEDIATE, REFERENCE, score
from protocol.stages import Stage, Stages
from protocol.tasks import TASKS, read_tasks

import seqjax as sj
from seqjax.cli.flags import read_plugins

RATES = tuple(float(f"{0.003 * 3.0**k:.2g}") for k in range(-3, 4))
UNTUNED = 0.003
"""The learning rate of those who do not tune."""
TUNING = 9_000
"""The two seeds that choose a learning rate are this one and the next, counted from the first seed that counts."""


@dataclass(frozen=True)
class Edition:
    """What is compared by default."""

    strategies: tuple[str, ...]
    models: tuple[str, ...]
    updates: int


SMALL = (
    "full",
    "rtrl",
    "sparse-rtrl:paths=2",
    "kf-rtrl",
    "snap",
    "uoro",
    "rflo",
    "truncated:steps=8",
    "randomized",
    "immediate",
)
EDITIONS = {
    "small": Edition(SMALL, ("rnn:hidden=32:initializer=uniform",), 1000),
    "full": Edition(
        (*SMALL, "e-prop", "kernl"), ("rnn:hidden=32:initializer=uniform", "gru:hidden=16:initializer=uniform"), 1000
    ),
}


def main(
    edition: Literal["small", "full"] = "small",
    strategies: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    seeds: Annotated[int, Interval(ge=5, le=TUNING)] = 10,
    first_seed: Annotated[int, Interval(ge=0)] = 0,
    updates: Annotated[int, Interval(ge=20)] | None = None,
    jobs: Annotated[int, Interval(ge=1)] | None = None,
    folder: str = "reports/referee",
    worker: int | None = None,
    out: str | None = None,
) -> sj.Report | None:
    """Runs the referee.

    Args:
        edition: what is compared by default.
        strategies: the strategies, such as `full,immediate,snap:n=2`. `full` and `immediate` are always there.
        also: strategies that are added to those of the edition, such as one of your own.
        tasks: the tasks, by their names in `protocol.tasks`, or datasets such as `dyck:kinds=3`.
        models: the models, such as `gru:hidden=16`.
        seeds: the number of seeds that count, at least 5.
        first_seed: the first of them. Another one makes the comparison again with other data, initial parameters,
            random numbers and seeds of tuning.
        updates: the updates of a run.
        jobs: the number of processes; None: one for each core.
        folder: has the results of all stages in its folder `stages`. The same command goes on with what is there.
        worker: is set by the script itself: computes stages on this core.
        out: the folder of the report; None: `folder`.
    """
    chosen = EDITIONS[edition]
    settings = Settings(
        updates=updates or chosen.updates,
        rates=RATES,
        untuned=UNTUNED,
        tuning_seeds=(TUNING + first_seed, TUNING + first_seed + 1),
        seeds=tuple(range(first_seed, first_seed + seeds)),
    )
    named = list(dict.fromkeys((REFERENCE, IMMEDIATE, *(strategies or chosen.strategies))))
    stages = Stages(
        Path(folder) / "stages",
        settings,
        read_tasks(tasks or tuple(TASKS)),
        read_plugins("model", models or chosen.models, flag="models"),
        read_plugins("gradient", named, flag="strategies") | read_plugins("gradient", also, flag="also"),
    )
    numbered = [*stages.measures, *stages.runs]
    if worker is not None:
        workers.serve_stages(worker, lambda number: stages.compute(numbered[number]))
        return None
    check_folder(Path(out or folder))
    _compute(stages, numbered, jobs or max(1, len(workers.cores())))
    title, _, protocol = (__doc__ or "").partition("\n")
    problems = score(stages)
    conclusions = sentences(problems, also)
    print(f"\n{conclusions}\n")
    return page(stages, problems, conclusions, title.partition("   ")[0], protocol.strip(), Path(folder))


def _compute(stages: Stages, numbered: list[Stage], jobs: int) -> None:
    """Computes the stages that have no result yet: first those that measure, alone, and then the runs side by side."""
    missing = {number: stage for number, stage in enumerate(numbered) if stages.result(stage) is None}
    begin, done = time.monotonic(), len(numbered) - len(missing)
    print(f"{done} of {len(numbered)} results are in {stages.folder}", flush=True)

    def report(number: int) -> None:
        nonlocal done
        done += 1
        stage = numbered[number]
        reason = stage.kind == "runs" and (stages.result(stage) or {}).get("refused")
        refused = f": {stage.strategy} does not take this task: {reason}" if reason else ""
        print(f"{done} of {len(numbered)}  {time.monotonic() - begin:6.0f} s  {stage}{refused}", flush=True)

    for kind, processes in (("measures", 1), ("runs", jobs)):
        of_kind = {number: stage for number, stage in missing.items() if stage.kind == kind}
        if kind == "runs":
            _announce(stages, list(of_kind.values()), jobs)
        workers.compute_all({number: str(stage) for number, stage in of_kind.items()}, processes, report)


def _announce(stages: Stages, missing: list[Stage], jobs: int) -> None:
    """Prints about how long the training takes, and which strategy takes most of it."""
    minutes = dict.fromkeys((stage.strategy for stage in missing), 0.0)
    for stage in missing:
        minutes[stage.strategy] += stages.expected_seconds(stage) / 60
    if minutes:
        longest = max(minutes, key=minutes.__getitem__)
        print(
            f"training: about {sum(minutes.values()) / jobs:.0f} minutes on {jobs} cores without compiling; most of "
            f"it is {longest}, {minutes[longest] / jobs:.0f} minutes",
            flush=True,
        )


if __name__ == "__main__":
    sj.script(main)

"""Which gradient through time is worth its price?   python experiments/referee.py

Two questions are asked. In the first one, the window of an update covers what the task needs, and it is asked what an
approximation of the full gradient loses. In the second one, a stream is read in windows that may be shorter, and it is
asked what is worth its price, in seconds and in bytes.

Each strategy trains the same network on the same data, from the same initial parameters. There is one update for each
window. Windows of all lengths read the same number of steps, so that shorter ones have more updates. Where no flag says
otherwise, gradients are clipped to the norm 1 in the first question, and a strategy of which more than 5 % of the
updates are clipped also runs without a clip. In the second question nothing is clipped: the gradients of single steps
are clipped so often that the clip biases the loss itself, since rare targets have the largest gradients.

Each strategy runs with a grid of learning rates and several seeds: five rates and ten seeds, where no flag says
otherwise. If the best rate lies at an edge of the grid, up to two more rates are added there. The seeds serve twice:
the rate and the clip are chosen by the mean loss over one half of the seeds, and counted on the other half, both ways.
For a smaller budget they are chosen again, by the loss that a run has at this budget.

The loss of an update is that of the task before the parameters change, whatever loss a strategy reports. The loss of a
run is the median of the means of its last four blocks, each of which is one twentieth of the updates. The data of a run
are new in each update, but for `permuted-digits` and other datasets of a fixed length.

The score of a run is (loss - floor) / (loss of `frozen` - floor), at most 1. `frozen` trains the read-out of the
network, and leaves the recurrence as it was; its loss is that of the same seed, so that its error is a part of all
intervals. The floor is the lowest possible loss of the task, or 0 if that is not known. A run that diverges has the
score 1.

A problem is a task with a network and a number of rows. It counts only if `full` with the longest window has a lower
loss than `frozen`, and than `immediate` or `full` with the shortest window, with disjoint 95 % intervals. There, a loss
counts at most as that of `frozen` with the same seed. The same seeds are used for this and for the verdicts. A problem
does not count either if the whole interval of a loss is below the floor by more than .05 of a score: then its floor is
too high. `influence-balancing` stands beside: a single parameter feeds all of its units, so that different
approximations are the same there.

A lower score is better, and so is a negative difference. All strategies have the same seeds, so that their scores are
paired. Intervals are those of a bootstrap that resamples the seeds within each problem, widened for few seeds. A p
value is the share of all changes of the signs of the differences that give a mean as far from zero, in units of its
standard error: of all 1,024 changes for ten differences, and of 20,000 random ones for more than twelve. It is
corrected by the method of Holm within each family of comparisons. Two strategies tie if the whole interval of their
difference lies within ± .05. One is better if they do not tie, the corrected p value is at most .05, and the interval
excludes zero. All else is undecided. Two strategies are the same if the losses of their first blocks agree to 1e-5 in
all runs: what differs later is rounding.

Two controls are on each page. `twin` is `full` with a gradient that differs in the last place: it must tie, and its
distance from `full` is the resolution of the page. `wrong-sign` is `full` with the negative gradient of the recurrence:
it must be worse.

The price of an update is the median time of its gradient on one core, in a compiled loop over windows, while the other
cores measure other prices. Optimizer and compiling are not part of it. If other programs used the core, the page says
so. With the core-seconds of `full`, a strategy has made as many updates as the core-seconds of a whole run of `full`
pay; of several windows, that of `full` is the longest one. If less than a block is paid, the score is set to 1. Bytes
are those of what is carried from window to window, and of the temporaries that XLA allocates. If fields of a strategy
are chosen as its rate is, its price is that of the dearest values.
"""

import dataclasses
import itertools
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval
from protocol import workers
from protocol.baselines import Frozen, Twin, WrongSign
from protocol.check_row import check_row
from protocol.compute import Settings
from protocol.editions import EDITIONS, RATES
from protocol.families import families
from protocol.leaky import LeakyRNN
from protocol.limits import few_seeds, planned
from protocol.page import check_folder, page, write_data
from protocol.problems import FROZEN, IMMEDIATE, REFERENCE, TWIN, WRONG_SIGN, Problem, Question, problems_of
from protocol.scores import score
from protocol.stages import KINDS, Stage, Stages
from protocol.tasks import read_tasks

import seqjax as sj
from seqjax.cli.flags import read_plugins
from seqjax.files import disk_errors

Whole = Annotated[int, Interval(ge=1)]
Positive = Annotated[float, Interval(gt=0)]


def main(
    edition: Literal["small", "stream", "full"] = "small",
    strategies: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    tune: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    windows: tuple[Whole, ...] = (),
    rows: tuple[Whole, ...] = (),
    updates: Annotated[int, Interval(ge=20)] | None = None,
    samples: Annotated[int, Interval(ge=20)] | None = None,
    rates: tuple[Positive, ...] = RATES,
    clips: tuple[Positive | Literal["none"], ...] = (),
    optimizer: Literal["adam", "sgd"] = "adam",
    seeds: Annotated[int, Interval(ge=4)] = 10,
    first_seed: Annotated[int, Interval(ge=0)] = 0,
    jobs: Whole | None = None,
    check: str | None = None,
    folder: str = "reports/referee",
    worker: int | None = None,
    out: str | None = None,
) -> sj.Report | None:
    """Runs the referee.

    Args:
        edition: what is compared where no other flag says it: "small", the first question with one network; "stream",
            the second one; "full", both.
        strategies: the strategies, such as `full,immediate,snap:n=2`. `full` is always there, and so is `immediate`
            where the windows are those of the tasks.
        also: strategies that are added to those of the edition, such as one of your own.
        tune: values to try for fields of the strategy of `also`, such as `mix=0.1,mix=0.5`. One of them is chosen as
            the learning rate is. All combinations of several fields are tried. The price is that of the dearest one.
        tasks: the tasks, by their names in `protocol.tasks`, or datasets such as `dyck:kinds=3`.
        models: the models, such as `gru:hidden=16`.
        windows: the lengths of the windows, in steps; each task is compared with each of them.
        rows: the numbers of rows, that is of sequences that an update reads side by side.
        updates: the updates of a run; of windows of several lengths, give `samples`.
        samples: the steps that a run reads, in place of `updates`; the number of updates follows from it.
        rates: the grid of learning rates, at least two.
        clips: the norms to which gradients are clipped; none: not at all. A strategy runs with the first one, and with
            the others if more than 5 % of its updates are clipped.
        optimizer: adam, or sgd, which multiplies the gradient by the learning rate alone.
        seeds: the number of seeds.
        first_seed: the first of them. Another one makes the comparison again with other data, initial parameters and
            random numbers.
        jobs: the number of processes; none: one for each core.
        check: the results of somebody else, a file `runs-....json` or a folder of them: they are checked, and some of
            their runs are repeated.
        folder: has the results of all stages in its folder `stages`. The same command goes on with what is there.
        worker: is set by the script itself: computes stages on this core.
        out: the folder of the report; None: `folder`.
    """
    _check_flags(rates, also, tune, updates, samples)
    settings = Settings(tuple(sorted(set(rates))), (), optimizer, tuple(range(first_seed, first_seed + seeds)))
    changes: dict[str, Any] = {"tasks": tasks, "lengths": windows, "rows": rows}
    if clips:
        changes["clips"] = tuple(None if clip == "none" else clip for clip in clips)
    if updates or samples:
        changes |= {"updates": updates or 0, "samples": samples or 0}
    variants = {name: _variants(name, tune) for name in also} if tune else {}
    entered = tuple(each for name in also for each in variants.get(name, [name]))
    questions = [_changed(each, strategies, entered, models, changes) for each in EDITIONS[edition]]
    if updates and any(len(set(lengths)) > 1 for question in questions for lengths in question.windows.values()):
        raise sj.Error(
            "--updates: windows of different lengths would read different amounts of data; give --samples, the steps "
            "that each run reads"
        )
    stages = Stages(
        Path(folder) / "stages",
        [problem for question in questions for problem in _problems(question, settings)],
        {FROZEN: Frozen(), TWIN: Twin(), WRONG_SIGN: WrongSign()} | _strategies(questions, entered),
    )
    numbered = stages.all
    if worker is not None:
        workers.serve_stages(worker, lambda number: stages.compute(numbered[number]))
        return None
    if check is not None:
        print(check_row(stages, Path(check), entered))
        return None
    check_folder(Path(out or folder))
    with disk_errors(stages.folder):
        stages.folder.mkdir(parents=True, exist_ok=True)
    for line in few_seeds(planned(stages.problems, variants), seeds):
        print(line)
    _compute(stages, numbered, jobs or max(1, len(workers.cores())))
    title, _, protocol = (__doc__ or "").partition("\n")
    problems = score(stages, variants)
    found, target = families(problems), Path(out or folder)
    texts = title.partition("   ")[0], protocol.strip(), _typed(sys.argv)
    report = page(stages, problems, found, texts, also, target)
    write_data(problems, found, target)
    print(f"\n{report.text}\n")
    return report


def _check_flags(
    rates: tuple[float, ...], also: tuple[str, ...], tune: tuple[str, ...], updates: int | None, samples: int | None
) -> None:
    """Refuses flags that contradict each other, and those that would have no effect."""
    if len(set(rates)) < 2:
        raise sj.Error("--rates: a grid has at least two learning rates")
    if updates and samples:
        raise sj.Error("--updates and --samples say the same: give one of them")
    if tune and len(also) != 1:
        raise sj.Error("--tune: the values are those of one strategy; name one with --also")
    if wrong := [each for each in tune if "=" not in each]:
        raise sj.Error(f"--tune {wrong[0]}: give a field and its value, such as mix=0.1")


def _typed(argv: list[str]) -> str:
    """The command, without those flags on which no number of the page depends."""
    kept, without = ["python", "experiments/referee.py"], ("--folder", "--out", "--jobs")
    words = iter(argv[1:])
    for word in words:
        if word in without:
            next(words, None)
        elif not word.startswith(tuple(f"{flag}=" for flag in without)):
            kept.append(word)
    return shlex.join(kept)


def _variants(name: str, values: tuple[str, ...]) -> list[str]:
    """A strategy with all combinations of values of its fields, which are given as `field=value`."""
    fields: dict[str, list[str]] = {}
    for each in values:
        field, _, value = each.partition("=")
        fields.setdefault(field, []).append(value)
    return [
        ":".join([name, *(f"{field}={value}" for field, value in zip(fields, chosen, strict=True))])
        for chosen in itertools.product(*fields.values())
    ]


def _changed(
    question: Question, strategies: tuple[str, ...], also: tuple[str, ...], models: tuple[str, ...], changes: dict
) -> Question:
    """A question with what the command line says in place of what the edition says."""
    given = {name: value for name, value in changes.items() if value is not None and value != ()}
    if windows := given.pop("lengths", ()):
        rows = given.pop("rows", ()) or tuple(question.windows) or (16,)
        given["windows"] = dict.fromkeys(rows, windows)
    elif rows := given.pop("rows", ()):
        given["windows"] = {each: question.windows.get(each, ()) for each in rows}
    always = (REFERENCE,) if given.get("windows", question.windows) else (REFERENCE, IMMEDIATE)
    first = next(iter(question.strategies.values()))
    of_models = {
        name: tuple(dict.fromkeys((*always, *(strategies or question.strategies.get(name, first)), *also)))
        for name in models or question.strategies
    }
    return dataclasses.replace(question, strategies=of_models, **given)


def _problems(question: Question, settings: Settings) -> list[Problem]:
    models = read_plugins("model", tuple(question.strategies), flag="models")
    return problems_of(question, settings, read_tasks(question.tasks), models)


def _strategies(questions: list[Question], also: tuple[str, ...]) -> dict[str, sj.Gradient]:
    names = dict.fromkeys(name for question in questions for each in question.strategies.values() for name in each)
    others = [name for name in names if name not in also]
    return read_plugins("gradient", others, flag="strategies") | read_plugins("gradient", also, flag="also")


def _compute(stages: Stages, numbered: list[Stage], jobs: int) -> None:
    """Computes the stages that have no result yet, one kind after the other."""
    missing = {number: stage for number, stage in enumerate(numbered) if stages.result(stage) is None}
    begin, done = time.monotonic(), len(numbered) - len(missing)
    print(f"{done} of {len(numbered)} results are in {stages.folder}", flush=True)

    def report(number: int) -> None:
        nonlocal done
        done += 1
        stage = numbered[number]
        reason = stage.kind == "runs" and (stages.result(stage) or {}).get("refused")
        refused = f": not taken: {reason}" if reason else ""
        print(f"{done} of {len(numbered)}  {time.monotonic() - begin:6.0f} s  {stage}{refused}", flush=True)

    for kind in KINDS:
        of_kind = {number: stage for number, stage in missing.items() if stage.kind == kind}
        if kind == "runs":
            _announce(stages, list(of_kind.values()), jobs)
        workers.compute_all({number: str(stage) for number, stage in of_kind.items()}, jobs, report)


def _announce(stages: Stages, missing: list[Stage], jobs: int) -> None:
    """Prints about how long the training takes, and which strategy takes most of it."""
    minutes = dict.fromkeys((stage.strategies[0] for stage in missing), 0.0)
    for stage in missing:
        minutes[stage.strategies[0]] += stages.expected_seconds(stage) / 60
    if minutes:
        longest = max(minutes, key=minutes.__getitem__)
        print(
            f"training: at least {sum(minutes.values()) / jobs:.0f} minutes on {jobs} cores, without compiling and "
            f"without the other clips; most of it is {longest}, {minutes[longest] / jobs:.0f} minutes",
            flush=True,
        )


if __name__ == "__main__":
    # Registered here, so that an import of this module registers nothing.
    sj.register("model", "leaky-rnn")(LeakyRNN)
    sj.script(main)

"""Which gradient through time is worth its price?   python experiments/referee.py --edition small

...
"""

import time
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval
from protocol import page, workers
from protocol.scores import score
from protocol.stages import Settings, Stage, Stages
from protocol.tasks import TASKS

import seqjax as sj
from seqjax.cli.flags import read_plugins

TITLE = "Which gradient through time is worth its price?"
RATES = tuple(float(f"{0.003 * 3.0**k:.3g}") for k in range(-3, 4))
UNTUNED = 0.003
TUNING_SEEDS = (9_000, 9_001)
EDITIONS = {
    "small": {
        "strategies": (
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
        ),
        "models": ("rnn:hidden=32:initializer=uniform",),
        "updates": 1000,
    }
}


def main(
    edition: Literal["small", "full"] = "small",
    strategies: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
    seeds: Annotated[int, Interval(ge=2)] = 10,
    first_seed: Annotated[int, Interval(ge=0, lt=8_000)] = 0,
    updates: Annotated[int, Interval(ge=20)] | None = None,
    jobs: Annotated[int, Interval(ge=1)] | None = None,
    folder: str = "reports/referee",
    worker: int | None = None,
) -> sj.Report | None:
    chosen = EDITIONS[edition]
    settings = Settings(
        updates=updates or chosen["updates"],
        rates=RATES,
        untuned=UNTUNED,
        tuning_seeds=TUNING_SEEDS,
        seeds=tuple(range(first_seed, first_seed + seeds)),
    )
    stages = Stages(
        Path(folder) / "stages",
        settings,
        {name: TASKS[name] for name in tasks or TASKS},
        read_plugins("model", models or chosen["models"]),
        read_plugins("gradient", strategies or chosen["strategies"]),
    )
    numbered = [*stages.measures, *stages.runs]
    if worker is not None:
        workers.serve_stages(worker, lambda number: stages.compute(numbered[number]))
        return None
    _compute(stages, numbered, jobs or max(1, len(workers.cores())))
    scores = score(stages)
    measured = {
        str(scores_name): stages.result(stage)
        for scores_name, stage in zip(scores.problems, stages.measures, strict=True)
    }
    report = sj.Report(title=TITLE, text=page.sentences(scores), folder=folder)
    page.fill(report, stages, scores, measured)
    return report


def _compute(stages: Stages, numbered: list[Stage], jobs: int) -> None:
    """Computes the stages that have no result yet: first those that measure, alone, and then the runs side by side."""
    missing = [number for number, stage in enumerate(numbered) if stages.result(stage) is None]
    begin, done = time.monotonic(), len(numbered) - len(missing)

    def report(number: int) -> None:
        nonlocal done
        done += 1
        print(f"{done} of {len(numbered)}  {time.monotonic() - begin:6.0f} s  {numbered[number]}", flush=True)

    for kind, processes in (("measures", 1), ("runs", jobs)):
        workers.compute_all([number for number in missing if numbered[number].kind == kind], processes, report)


if __name__ == "__main__":
    sj.script(main)

"""The page of the referee: what was compared, what follows, tables and figures."""

import re
from pathlib import Path

import jax

import seqjax as sj
from seqjax.errors import few
from seqjax.files import check_replaceable
from seqjax.report.page.template import MARK
from seqjax.report.report import PAGE

from . import figures, tables
from .claims import claims
from .scores import TaskScores, admitted
from .stages import Stages

KINDS = {".csv", ".png", ".svg", ".md", ".html"}
"""The endings of the files of a report."""
READING = """
The score over all tasks is the mean over the tasks of the interquartile mean over the seeds, which leaves out the
lowest and the highest quarter. A difference of two strategies is the plain mean over tasks and seeds, and a tie over
all tasks is a tie of these means: on single tasks two strategies can differ in both directions. A tie can also be a
small difference that is certainly not zero. The ranks resample the seeds and not the tasks, as all intervals do, so
that they hold for these tasks. A p value over all tasks also grows if the tasks disagree. Hence a pair can have
different ranks and be undecided.

The intervals belong to the learning rates that were chosen, and do not contain the error of this choice. "Score without
tuning" is that with one rate for all. On one task, p values are corrected for its comparisons with `full`, and not
across the tasks.

Bias is the distance of the mean estimate from the gradient of the whole history, relative to its norm, with its
standard error for a random strategy. The history is that of three windows, if the state is carried from window to
window. `full` stops at the start of its window, and has a bias of its own there. Variance is that of one estimate,
relative to the squared norm. Cosine is the mean cosine of an estimate and the gradient that the strategy claims to
estimate, of the window or of the history. The time to a score of .5 is that of the first block of a run, one twentieth
of its updates, with this score; the median over the seeds.

A price is that of these implementations on one core of a CPU, for networks of this size. It contains neither the
optimizer nor memory, it has no interval, and it is no statement about an algorithm at another size or on a GPU. No run
is longer than the others, so that a strategy that is cheaper than `full` does not spend all core-seconds.

A claim is reproduced if the whole interval lies within the stated range, and not reproduced if it lies outside; p
values are not used. The papers trained other networks on other tasks, with an update after every step. What is not
reproduced here does not carry over to these tasks, and is not refuted on those of the papers. A task counts only if
`immediate` is worse than `full`, so that on these tasks only the size of its difference is a result, and not its sign.
"""


def check_folder(folder: Path) -> None:
    """Checks that the report can be written to a folder: it is called before the work.

    Raises:
        Error: the folder has a file that the report could replace, and that no earlier report has written.
    """
    check_replaceable(folder / PAGE, MARK)
    if (folder / PAGE).is_file():
        return
    # `Report.save` writes the page first: without one, no file in the folder is that of a report.
    if found := sorted(file.name for file in folder.glob("*") if file.suffix in KINDS):
        raise sj.Error(
            f"{folder} has files that the report could replace, and no page of an earlier one: {few(found)}. Nothing "
            "was computed; move them, or name another folder with --out"
        )


def page(
    stages: Stages, problems: list[TaskScores], conclusions: str, title: str, protocol: str, folder: Path
) -> sj.Report:
    """The report of an edition whose stages have all been computed.

    Args:
        stages: the stages.
        problems: the results of the stages.
        conclusions: what follows from them, as Markdown.
        title: the title.
        protocol: how the strategies were compared, as Markdown.
        folder: the folder of the report.
    """
    text = f"{_setting(stages)}\n\n{conclusions}\n\n## The protocol\n\n{protocol}\n\n## How to read it\n{READING}"
    report = sj.Report(title=title, text=text, folder=folder, html=True)
    report.table("tasks", tables.tasks(problems))
    report.figure("score_by_task", figures.score_by_task(problems))
    if admitted(problems):
        report.table("ranking", tables.ranking(problems))
        # Strategies that do not take all tasks that count are ranked on those that all take.
        taken = [problem for problem in admitted(problems) if not problem.refused]
        if 0 < len(taken) < len(admitted(problems)):
            report.table("ranking_where_all_run", tables.ranking(taken))
        report.figure("score_against_price", figures.score_against_price(problems))
        report.table("pairs", tables.pairs(problems))
        report.table("differences", tables.differences(problems))
    report.table("scores", tables.scores_by_task(problems))
    report.table("against_full", tables.verdicts_by_task(problems))
    report.table("claims", claims(problems))
    report.table("strategies", tables.strategies(stages))
    for problem in problems:
        report.table(f"on_{re.sub(r'\W+', '_', problem.name)}", tables.one_task(problem))
    if (refused := tables.refused(problems)) is not None:
        report.table("not_applicable", refused)
    report.figure("score_along_core_seconds", figures.score_along_core_seconds(problems))
    report.figure("score_by_learning_rate", figures.score_by_learning_rate(problems))
    return report


def _setting(stages: Stages) -> str:
    """What was compared, as sentences."""
    settings = stages.settings
    models = " and ".join(f"`{name}`" for name in stages.models)
    return (
        f"{len(stages.strategies) - 1} strategies trained {models} with {settings.updates:,} updates and the seeds "
        f"{settings.seeds[0]} to {settings.seeds[-1]}, with seqjax {sj.__version__} and jax {jax.__version__}. "
        f"The seeds {' and '.join(map(str, settings.tuning_seeds))} chose the learning rates. "
        f"Without tuning, the rate is {settings.untuned:g}."
    )

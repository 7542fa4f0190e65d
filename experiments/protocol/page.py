"""The page of the referee: what was compared, what follows, tables and figures."""

import re
from pathlib import Path

import jax

import seqjax as sj

from . import figures, tables
from .claims import claims
from .conclusions import sentences
from .scores import admitted, score
from .stages import Stages


def page(stages: Stages, title: str, protocol: str, folder: Path) -> sj.Report:
    """The report of an edition whose stages have all been computed.

    Args:
        stages: the stages.
        title: the title.
        protocol: how the strategies were compared, as Markdown.
        folder: the folder of the report.
    """
    problems = score(stages)
    text = f"{_setting(stages)}\n\n{sentences(problems)}\n\n## The protocol\n\n{protocol}"
    report = sj.Report(title=title, text=text, folder=folder)
    report.table("tasks", tables.tasks(problems))
    report.figure("score_by_task", figures.score_by_task(problems))
    if admitted(problems):
        report.table("ranking", tables.ranking(problems))
        report.figure("score_against_price", figures.score_against_price(problems))
        report.table("pairs", tables.pairs(problems))
    report.table("scores", tables.scores_by_task(problems))
    report.table("against_full", tables.verdicts_by_task(problems))
    report.table("claims", claims(problems))
    for problem in problems:
        report.table(f"on_{re.sub(r'\W+', '_', problem.name)}", tables.one_task(problem))
    if (refused := tables.refused(problems)) is not None:
        report.table("not_applicable", refused)
    report.figure("score_along_core_seconds", figures.score_along_core_seconds(problems))
    report.figure("score_by_learning_rate", figures.score_by_learning_rate(problems))
    return report


def _setting(stages: Stages) -> str:
    """What was compared, as a sentence."""
    settings = stages.settings
    models = " and ".join(f"`{name}`" for name in stages.models)
    return (
        f"{len(stages.strategies) - 1} strategies trained {models} with {settings.updates:,} updates and the seeds "
        f"{settings.seeds[0]} to {settings.seeds[-1]}, with seqjax {sj.__version__} and jax {jax.__version__}."
    )

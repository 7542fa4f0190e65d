"""The page of the referee: what was compared, what follows, tables and figures."""

from pathlib import Path

import jax

import seqjax as sj
from seqjax.errors import few
from seqjax.files import write
from seqjax.plugin.config import describe

from . import figures, tables
from .conclusions import of_windows, sentences
from .editions import UNTUNED
from .families import ALL, PAIRS, SECONDS, UPDATES, Family
from .limits import remarks, warnings
from .scores import ProblemScores, counted
from .stages import Stages

KINDS = {".csv", ".png", ".svg", ".md", ".json"}
"""The endings of the files of a report."""
DATA = "data"
"""The folder of the verdicts and the losses in that of a report."""
NOT_TESTED = """
- Other networks, other sizes and other tasks: the intervals resample the seeds, and hold for these problems.
- A GPU: prices are those of these implementations on one core of a CPU. A strategy that is cheaper than `full` does not
  spend what it saves, since all runs read equally many steps of data.
- Stacks of layers, and tasks in which a reward comes late.
- Learning rates that change, and optimizers with other fields than their defaults.
"""


def check_folder(folder: Path) -> None:
    """Checks that the report can be written to a folder: it is called before the work.

    Raises:
        Error: the folder has a file that the report could replace, and that no earlier report has written.
    """
    # `write_data` makes this folder first: without it, no file is that of a report.
    if (folder / DATA).is_dir():
        return
    if found := sorted(file.name for file in folder.glob("*") if file.suffix in KINDS):
        raise sj.Error(
            f"{folder} has files that the report could replace, and no {DATA!r} of an earlier one: {few(found)}. "
            "Nothing was computed; move them, or name another folder with --out"
        )


def page(
    stages: Stages,
    problems: list[ProblemScores],
    found: list[Family],
    texts: tuple[str, str, str],
    about: tuple[str, ...],
    folder: Path,
) -> sj.Report:
    """The report of an edition whose stages have all been computed.

    Args:
        stages: the stages.
        problems: the results of the stages.
        found: the verdicts.
        texts: the title; how the strategies were compared, as Markdown; the command.
        about: the strategies that come first.
        folder: the folder of the report.
    """
    title, protocol, command = texts
    text = "\n\n".join(
        filter(None, (warnings(problems, found), sentences(problems, found, about), _setting(stages, command)))
    )
    report = sj.Report(title=title, text=text, folder=folder)
    one = [problem for problem in problems if len(problem.problem.lengths) == 1]
    several = [problem for problem in problems if len(problem.problem.lengths) > 1]
    if one:
        report.figure("score_by_task", figures.score_by_task(one))
    if used := counted(several):
        report.figure("score_by_window", figures.score_by_window(used))
    if group := counted(one):
        report.figure("score_against_price", figures.score_against_price(group))
    # Problems with other numbers of rows have other prices, and other lengths of their windows.
    for rows in dict.fromkeys(problem.problem.rows for problem in used):
        group = [problem for problem in used if problem.problem.rows == rows]
        report.figure(f"score_against_price_with_{rows}_row{'s' * (rows > 1)}", figures.score_against_price(group))
    report.section("what_is_not_tested", NOT_TESTED)
    if text := of_windows(found):
        report.section("windows_of_all_lengths", text, folded=True)
    limits = f"{remarks(problems, found)}\n- {tables.tuning(problems, UNTUNED)}"
    report.section("what_limits_the_answers", limits, folded=True)
    report.section("the_protocol", protocol, folded=True)
    report.table("problems", tables.tasks(problems), folded=True)
    ranked = [each for each in found if (each.kind, each.budget) == (ALL, UPDATES)]
    for each in ranked:
        of_question = {(other.kind, other.budget): other for other in found if other.question == each.question}
        suffix = f"_{each.question}" if len(ranked) > 1 else ""
        report.table(f"ranking{suffix}", tables.ranking(each, of_question[ALL, SECONDS]), folded=True)
        report.table(f"pairs{suffix}", tables.pairs(of_question[PAIRS, UPDATES]), folded=True)
    report.table("runs", tables.runs(problems, found, UNTUNED), folded=True)
    if counted(problems):
        report.table("score_by_budget", tables.by_budget(counted(problems)), folded=True)
    report.table("strategies", tables.strategies(stages), folded=True)
    if (refused := tables.refused(problems)) is not None:
        report.table("not_applicable", refused, folded=True)
    report.figure("score_along_core_seconds", figures.score_along_core_seconds(problems), folded=True)
    report.figure("score_by_learning_rate", figures.score_by_learning_rate(problems), folded=True)
    return report


def write_data(problems: list[ProblemScores], found: list[Family], folder: Path) -> None:
    """Writes all verdicts, and the losses from which they can be computed again, into the folder `data` of a report.

    They are written before the page, so that their folder tells `check_folder` that the files beside it are those of a
    report.
    """
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    for name, table in (("verdicts", tables.verdicts(found)), ("losses", tables.losses(problems))):
        write(folder / DATA / f"{name}.csv", table.to_csv())


def _setting(stages: Stages, command: str) -> str:
    """What was compared, as sentences."""
    settings = stages.problems[0].windows[0].settings
    models = [problem.windows[0].model for problem in stages.problems]
    names = dict.fromkeys(describe(model) for model in models if model is not None)
    networks = f"The networks are {', '.join(f'`{name}`' for name in names)}. " if names else ""
    rates = ", ".join(f"{rate:g}" for rate in settings.rates)
    return (
        "Score 0 is the lowest possible loss, or the loss 0 where that is not known, and score 1 that of a recurrence "
        f"that is not trained. Scores and differences are means over seeds and problems. {networks}Each learning rate, "
        f"of {rates}, is chosen on one half of the {len(settings.seeds)} seeds ({settings.seeds[0]} to "
        f"{settings.seeds[-1]}) and counted on the other. With {settings.optimizer}, seqjax {sj.__version__} and jax "
        f"{jax.__version__}, by `{command}`."
    )

"""What is compared: questions, the problems of each of them, and who takes part."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import seqjax as sj

from .compute import Settings
from .tasks import Task
from .training import BLOCKS

REFERENCE, IMMEDIATE = "full", "immediate"
"""The strategies that every edition has: the one with which others are compared, and the one of a single step."""
FROZEN, TWIN, WRONG_SIGN = CONTROLS = "frozen", "twin", "wrong-sign"
"""The baselines, which are in no ranking."""


@dataclass(frozen=True)
class Question:
    """A question of an edition.

    Args:
        name: its name.
        tasks: the names of its tasks.
        strategies: model -> the names of the strategies that train it.
        windows: number of rows -> the lengths of the windows; empty: each task has its own ones.
        updates: the updates of a run; 0: as many as `samples` allow.
        samples: the steps of all rows that a run reads.
        clips: see `Settings`.
        has_errors: whether bias and variance are measured.
    """

    name: str
    tasks: tuple[str, ...]
    strategies: Mapping[str, tuple[str, ...]]
    windows: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    updates: int = 0
    samples: int = 0
    clips: tuple[float | None, ...] = (1.0, None)
    has_errors: bool = False


class Window(NamedTuple):
    """A problem in windows of one length: what one run trains.

    Args:
        name: the name of the problem.
        task: the task, with its window and its rows.
        model: the model; None: the task needs none.
        updates: the updates of a run.
        settings: what all runs share.
    """

    name: str
    task: Any
    model: sj.Model | None
    updates: int
    settings: Settings

    def __str__(self) -> str:
        return f"{self.name}, window {self.task.window}"


@dataclass(frozen=True)
class Problem:
    """A task with a model and a number of rows, on which all strategies are compared.

    Args:
        question: the name of its question.
        task_name: the name of the task.
        network: the short name of the model; "": the task needs none.
        rows: the number of rows.
        windows: the lengths of the windows, the shortest one first.
        strategies: the names of the strategies.
        has_errors: whether bias and variance are measured.
    """

    question: str
    task_name: str
    network: str
    rows: int
    windows: tuple[Window, ...]
    strategies: tuple[str, ...]
    has_errors: bool

    @property
    def task(self) -> Task:
        """The task, in its longest windows."""
        return self.windows[-1].task

    @property
    def name(self) -> str:
        """Task, model and rows."""
        return self.windows[0].name

    @property
    def lengths(self) -> list[int]:
        """The lengths of the windows, the shortest one first."""
        return [window.task.window for window in self.windows]

    @property
    def entries(self) -> list[tuple[Window, str]]:
        """Who takes part: each strategy with each window, and the controls with the longest one."""
        return [
            (window, name)
            for window in self.windows
            for name in self.strategies
            if window is self.windows[-1] or name not in (TWIN, WRONG_SIGN)
        ]


def problems_of(
    question: Question, settings: Settings, tasks: Mapping[str, Any], models: Mapping[str, sj.Model]
) -> list[Problem]:
    """The problems of a question.

    Args:
        question: the question.
        settings: what all runs share, but for the clips, which are those of the question.
        tasks: the tasks by name.
        models: the models by name.
    """
    found, short = [], short_names(tuple(models))
    settings = dataclasses.replace(settings, clips=question.clips)
    for task_name in question.tasks:
        task = tasks[task_name]
        for model_name in models if task.has_model else ("",):
            network = short.get(model_name, "")
            # A task without a model has the strategies of the first one.
            strategies = question.strategies.get(model_name) or next(iter(question.strategies.values()))
            lengths = question.windows if question.windows and task.has_model else {task.rows: (task.window,)}
            for rows, windows in lengths.items():
                rows_text = f"{rows} row{'s' * (rows > 1)}" if len(question.windows) > 1 else ""
                name = ", ".join(filter(None, (task_name, network, rows_text)))
                sized = []
                for length in sorted(windows or (task.window,)):
                    updates = question.updates or question.samples // (length * rows)
                    if updates < BLOCKS:
                        raise sj.Error(
                            f"{name}: {question.samples} samples are {updates} updates of {length} steps in {rows} "
                            f"rows, and a run has {BLOCKS} at least"
                        )
                    sized.append(Window(name, _sized(task, length, rows), models.get(model_name), updates, settings))
                everyone = (*CONTROLS, *strategies)
                found.append(
                    Problem(question.name, task_name, network, rows, tuple(sized), everyone, question.has_errors)
                )
    return found


def _sized(task: Any, window: int, rows: int) -> Any:
    """A task with other windows and rows; rows are those of tasks that have a model."""
    return dataclasses.replace(task, window=window, **({"rows": rows} if task.has_model else {}))


def short_names(models: tuple[str, ...]) -> dict[str, str]:
    """The models by their plugins alone, such as "gru", unless two of them have the same plugin."""
    plugins = {model: model.partition(":")[0] for model in models}
    return plugins if len(set(plugins.values())) == len(plugins) else {model: model for model in plugins}

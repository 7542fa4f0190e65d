"""The stages of the referee: each one is computed once, and its result is a file.

A stage is one of two kinds. "measures" measures all strategies on one task and model: seconds of an update, bias and
variance. "runs" tunes one strategy on one task and model, and trains it with the seeds that count. A result belongs to
the settings of its stage, which are part of the name of its file, and to the code that computed it.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

import seqjax as sj
from seqjax.files import write
from seqjax.gradients import init_memory
from seqjax_gradients import Full

from . import baselines, tasks, training
from .baselines import Frozen
from .tasks import Task
from .training import BLOCKS, compile_run, tail

FROZEN = "frozen"
"""The name of the baseline."""
MOST_EXTENSIONS = 3
"""How many rates are added on each side of the grid at most, if the best one lies at its edge."""
MEASURED_AFTER, MEASURED_WINDOWS, DRAWS = 4, 3, 40
"""Bias and variance are measured after one fourth of a run, on three windows if the state is carried from one to the
next, with 40 draws of a random strategy."""


@dataclass(frozen=True)
class Settings:
    """What all runs share.

    Raises:
        Error: a seed is used for tuning and for counting.
    """

    updates: int
    """The number of updates of a run."""
    rates: tuple[float, ...]
    """The grid of learning rates."""
    untuned: float
    """The learning rate of those who do not tune."""
    tuning_seeds: tuple[int, ...]
    """The seeds with which a learning rate is chosen."""
    seeds: tuple[int, ...]
    """The seeds that count."""

    def __post_init__(self) -> None:
        if both := set(self.tuning_seeds) & set(self.seeds):
            raise sj.Error(
                f"the seeds {sorted(both)} choose a learning rate and count as well, so that the scores would be too "
                "good: choose other seeds"
            )


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        kind: "measures" or "runs".
        task: the name of the task.
        model: the name of the model.
        strategy: the name of the strategy; "": all of them.
    """

    kind: str
    task: str
    model: str
    strategy: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.task, self.model, self.strategy) if part)


class Stages:
    """All stages of an edition, and the folder of their results.

    Args:
        folder: the folder.
        settings: what all runs share.
        tasks: the tasks by name.
        models: the models by name.
        strategies: the strategies by name.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        tasks: Mapping[str, Task],
        models: Mapping[str, sj.Model],
        strategies: Mapping[str, sj.Gradient],
    ):
        self.folder, self.settings = folder, settings
        self.tasks, self.models = tasks, models
        self.strategies = {FROZEN: Frozen(), **strategies}

    @property
    def measures(self) -> list[Stage]:
        """Those that measure; each needs a core of its own on a machine that does nothing else."""
        return [Stage("measures", task, model) for task, model in self.problems]

    @property
    def runs(self) -> list[Stage]:
        """Those that train."""
        return [Stage("runs", task, model, name) for name in self.strategies for task, model in self.problems]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Task and model; a task without a model has the name "" for it."""
        return [
            (name, model) for name, task in self.tasks.items() for model in (self.models if task.has_model else ("",))
        ]

    def result(self, stage: Stage) -> dict[str, Any] | None:
        """The result of a stage; None: it has none yet.

        Raises:
            Error: its file is damaged.
        """
        file = self._file(stage)
        try:
            return json.loads(file.read_bytes()) if file.is_file() else None
        except ValueError as fault:
            raise sj.Error(f"{file} is damaged; delete it, and type the same command again") from fault

    def compute(self, stage: Stage) -> dict[str, Any]:
        """The result of a stage, which is written to its file if it has none yet."""
        if (found := self.result(stage)) is None:
            found = self._measures(stage) if stage.kind == "measures" else self._runs(stage)
            self.folder.mkdir(parents=True, exist_ok=True)
            # A file is written whole or not at all, so that a result that is there is complete.
            write(self._file(stage), json.dumps(found))
        return found

    def _file(self, stage: Stage) -> Path:
        task, model = self.tasks[stage.task], self.models.get(stage.model)
        settings: dict[str, Any] = {"task": repr(task), "model": repr(model)}
        parts: list[Any] = [task, model]
        if stage.kind == "runs":
            settings |= {"strategy": repr(self.strategies[stage.strategy])} | dataclasses.asdict(self.settings)
            parts.append(self.strategies[stage.strategy])
        else:
            settings |= {"strategies": repr(self.strategies)}
            parts += self.strategies.values()
        settings["code"] = _code_of(parts)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        name = str(stage).translate(str.maketrans(" :=,/", "-----"))
        return self.folder / f"{name}-{digest}.json"

    def _measures(self, stage: Stage) -> dict[str, Any]:
        """Seconds of an update, bias and variance of each strategy that takes this problem.

        The parameters are those after a part of a run with the full gradient: at the initial ones nearly the whole
        gradient is that of the read-out, which all strategies share.
        """
        task, seed = self.tasks[stage.task], self.settings.tuning_seeds[0]
        problem = task.problem(self.models.get(stage.model))
        before = task.feed(seed, max(BLOCKS, self.settings.updates // MEASURED_AFTER))
        params = compile_run(problem, Full(), before)(seed, self.settings.untuned, before).params
        feed = task.feed(seed + 1, MEASURED_WINDOWS)
        # A window that starts a sequence in every row has no history.
        windows = 1 if feed.reset[1:].any() else MEASURED_WINDOWS
        state = problem.init_rows(params, feed.reset.shape[1])

        def join(a: Any) -> Any:
            return a[:windows].reshape(-1, *a.shape[2:])

        usable = {
            name: strategy
            for name, strategy in self.strategies.items()
            if _refusal(strategy, problem, params, state) is None
        }
        measured = sj.measure(
            problem,
            usable,
            params=params,
            state=state,
            xs=jax.tree.map(join, feed.xs),
            weights=join(feed.weights) / windows,
            windows=windows,
            draws=DRAWS,
            progress=False,
        )
        columns = ("seconds", "history_bias", "history_bias_error", "variance", "cosine")
        return {
            name: {column: _finite(getattr(measured, column)[n]) for column in columns} for n, name in enumerate(usable)
        }

    def _runs(self, stage: Stage) -> dict[str, Any]:
        """The losses of all runs of one strategy on one task and model, and the learning rate that was chosen."""
        settings, task, strategy = self.settings, self.tasks[stage.task], self.strategies[stage.strategy]
        problem = task.problem(self.models.get(stage.model))
        first = task.feed(settings.tuning_seeds[0], settings.updates)
        params = problem.init(jax.random.key(0))
        state = problem.init_rows(params, first.reset.shape[1])
        if (refusal := _refusal(strategy, problem, params, state)) is not None:
            return {"refused": refusal}
        run = compile_run(problem, strategy, first)

        def losses(seeds: tuple[int, ...], rate: float) -> list[list[float | None]]:
            return [[*map(_finite, run(seed, rate, task.feed(seed, settings.updates)).blocks)] for seed in seeds]

        tuning = {rate: losses(settings.tuning_seeds, rate) for rate in settings.rates}
        best = choose(tuning)
        for _ in range(MOST_EXTENSIONS):
            if (rate := beyond(best, tuning)) is None:
                break
            tuning[rate] = losses(settings.tuning_seeds, rate)
            best = choose(tuning)
        tuned = losses(settings.seeds, best)
        return {
            "refused": None,
            "rate": best,
            "tuning_seeds": settings.tuning_seeds,
            "seeds": settings.seeds,
            "tuning": [[rate, tuning[rate]] for rate in sorted(tuning)],
            "tuned": tuned,
            "untuned": tuned if best == settings.untuned else losses(settings.seeds, settings.untuned),
        }


def choose(tuning: Mapping[float, Any]) -> float:
    """The rate with the lowest mean tail over the seeds. A rate with which a run diverges is not chosen."""
    return min(tuning, key=lambda rate: (np.mean(tail(as_array(tuning[rate]))), rate))


def beyond(best: float, tuning: Mapping[float, Any]) -> float | None:
    """The next rate beyond the edge of the grid; None: the best one does not lie at an edge."""
    rates = sorted(tuning)
    if best not in (rates[0], rates[-1]):
        return None
    return rates[0] / (rates[1] / rates[0]) if best == rates[0] else rates[-1] * (rates[-1] / rates[-2])


def as_array(losses: Any) -> np.ndarray:
    """Losses from a file, float64; NaN where a loss was not finite."""
    return np.array(losses, np.float64)


def _finite(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def _refusal(strategy: sj.Gradient, problem: Any, params: Any, state: Any) -> str | None:
    """Why a strategy does not take a problem; None: it does."""
    try:
        init_memory(strategy, problem, params, state, jax.tree.leaves(state)[0].shape[0])
    except sj.Error as fault:
        return str(fault)
    return None


def _code_of(parts: list[Any]) -> dict[str, str]:
    """The version of seqjax, and the hash of each file that the results depend on and that is no part of it."""
    found: dict[str, Path] = {}
    for each in (tasks, training, baselines, *(sys.modules[type(part).__module__] for part in parts)):
        _add_files(found, each)
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(found.items())}
    return {"seqjax": sj.__version__, "jax": jax.__version__} | hashes


def _add_files(found: dict[str, Path], module: ModuleType) -> None:
    """Adds the file of a module, those in its folder that it imports, and so on."""
    file = Path(getattr(module, "__file__", None) or "")
    if module.__name__ in found or not file.is_file():
        return
    found[module.__name__] = file
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            names = [origin, *(f"{origin}.{each.name}" for each in node.names)]
        for other in filter(None, map(sys.modules.get, names)):
            if Path(getattr(other, "__file__", None) or "").parent == file.parent:
                _add_files(found, other)

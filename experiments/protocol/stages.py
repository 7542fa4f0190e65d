"""The stages of the referee: each one is computed once, and its result is a file.

A stage is one of two kinds. "measures" measures all strategies on one task and model: seconds of an update, bias and
variance. "runs" tunes one strategy on one task and model, and trains it with the seeds that count. A result belongs to
the settings of its stage, which are part of the name of its file, and to the code that computed it.
"""

import ast
import dataclasses
import functools
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

import seqjax as sj
from seqjax.files import read_plain, write
from seqjax.parse import from_json

from . import baselines, compute
from .baselines import Frozen
from .compute import Settings
from .tasks import Task

FROZEN = "frozen"
"""The name of the baseline."""


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

    def expected_seconds(self, stage: Stage) -> float:
        """About how long a stage that trains takes by the price of its updates, without compiling and optimizer."""
        prices = self.result(Stage("measures", stage.task, stage.model)) or {}
        settings, seconds = self.settings, prices.get(stage.strategy, {}).get("seconds", 0.0)
        num_runs = len(settings.rates) * len(settings.tuning_seeds) + 2 * len(settings.seeds)
        return num_runs * settings.updates * seconds

    def result(self, stage: Stage) -> dict[str, Any] | None:
        """The result of a stage; None: it has none yet.

        Raises:
            Error: exit code 4: its file is damaged, or was edited or renamed; 6: it may not be read.
        """
        file = self._file(stage)
        try:
            data = read_plain(file)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise sj.Error(f"{file} cannot be read: {fault.strerror}; no file was touched", exit_code=6) from fault
        try:
            content = from_json(data)
            result = content["result"]
        except (ValueError, TypeError, LookupError):
            result = None
        # The one text that a result can have in this file.
        if data != encode(file.name, result):
            raise sj.Error(
                f"{file} is damaged, or was edited or renamed: the hash in it is not that of its name and content. "
                "Delete it, and type the same command again: this stage is computed again",
                exit_code=4,
            )
        return result

    def compute(self, stage: Stage) -> dict[str, Any]:
        """The result of a stage, which is written to its file if it has none yet."""
        if (found := self.result(stage)) is None:
            task, model = self.tasks[stage.task], self.models.get(stage.model)
            if stage.kind == "measures":
                found = compute.measure(self.settings, task, model, self.strategies)
            else:
                found = compute.train(self.settings, task, model, self.strategies[stage.strategy])
            self.folder.mkdir(parents=True, exist_ok=True)
            # A file is written whole or not at all, so that a result that is there is complete.
            file = self._file(stage)
            write(file, encode(file.name, found))
        return found

    def _file(self, stage: Stage) -> Path:
        task, model = self.tasks[stage.task], self.models.get(stage.model)
        settings = dataclasses.asdict(self.settings)
        if stage.kind == "measures":
            strategies = [self.strategies[name] for name in sorted(self.strategies)]
            # The seeds that count have no part in what is measured.
            del settings["seeds"], settings["rates"]
        else:
            strategies = [self.strategies[stage.strategy]]
        code = _code_of([task, getattr(task, "dataset", None), model, *strategies])
        key = settings | {"task": repr(task), "model": repr(model), "strategies": repr(strategies), "code": code}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        name = str(stage).translate(str.maketrans(" :=,/", "-----"))
        return self.folder / f"{name}-{digest}.json"


def encode(name: str, result: Any) -> bytes:
    """The bytes of the file of a result, which has the hash of its own name and of the result."""
    sha256 = hashlib.sha256(json.dumps([name, result]).encode()).hexdigest()
    return json.dumps({"result": result, "sha256": sha256}).encode()


def _code_of(parts: list[Any]) -> dict[str, str]:
    """The version of seqjax, and the hash of each file that the results depend on and that is no part of it."""
    modules = (compute, baselines, *(sys.modules[type(part).__module__] for part in parts))
    found = dict(sorted(file for module in modules for file in _files_of(module).items()))
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in found.items()}
    return {"seqjax": sj.__version__, "jax": jax.__version__} | hashes


@functools.cache
def _files_of(module: ModuleType) -> dict[str, Path]:
    """The files on which a module depends, by module. What is imported in this process does not change."""
    found: dict[str, Path] = {}
    _add_files(found, module)
    return found


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

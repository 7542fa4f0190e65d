"""The stages of the referee: each one is computed once, and its result is a file.

A stage is one of three kinds. "price" measures seconds and bytes of one strategy on one problem, "runs" trains it with
all learning rates and seeds, and "errors" measures bias and variance of all strategies. A result belongs to the
settings of its stage, which are part of the name of its file, and to the code that computed it. A price also belongs to
the machine.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

import seqjax as sj
from seqjax.files import read_plain, write
from seqjax.parse import from_json
from seqjax.user_cache import machine_key

from . import baselines, compute
from .problems import Problem, Window

DAMAGED = "damaged, or was edited or renamed: the hash in it is not that of its name and content"
"""What is wrong about a file whose result is not used."""
KINDS = ("price", "errors", "runs")
"""The kinds of stages, in the order in which they are computed."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        kind: one of `KINDS`.
        window: a problem in windows of one length.
        strategies: the names of the strategies.
    """

    kind: str
    window: Window
    strategies: tuple[str, ...]

    def __str__(self) -> str:
        strategy = self.strategies[0] if self.kind != "errors" else ""
        return " ".join(part for part in (self.kind, str(self.window), strategy) if part)


class Stages:
    """All stages of an edition, and the folder of their results.

    Args:
        folder: the folder.
        problems: the problems.
        strategies: the strategies by name, those of all problems.
    """

    def __init__(self, folder: Path, problems: Sequence[Problem], strategies: Mapping[str, sj.Gradient]):
        self.folder, self.problems, self.strategies = folder, problems, strategies

    @property
    def all(self) -> list[Stage]:
        """All stages, in the order in which they are computed."""
        each = [(window, entry) for problem in self.problems for window, entry in problem.entries]
        singles = {kind: [Stage(kind, window, (entry,)) for window, entry in each] for kind in ("price", "runs")}
        errors = [
            Stage("errors", window, problem.strategies)
            for problem in self.problems
            if problem.has_errors
            for window in problem.windows
        ]
        return [*singles["price"], *errors, *singles["runs"]]

    def expected_seconds(self, stage: Stage) -> float:
        """About how long a stage that trains takes by the price of its updates, without compiling and optimizer."""
        found = self.result(dataclasses.replace(stage, kind="price")) or {}
        settings = stage.window.settings
        return len(settings.rates) * len(settings.seeds) * stage.window.updates * found.get("seconds", 0.0)

    def result(self, stage: Stage) -> dict[str, Any] | None:
        """The result of a stage; None: it has none yet.

        Raises:
            Error: exit code 4: its file is damaged, or was edited or renamed; 6: it may not be read.
        """
        file = self.file(stage)
        try:
            found = decode(file.name, read_plain(file))
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise sj.Error(f"{file} cannot be read: {fault.strerror}; no file was touched", exit_code=6) from fault
        if found is None:
            raise sj.Error(
                f"{file} is {DAMAGED}. Delete it, and type the same command again: this stage is computed again",
                exit_code=4,
            )
        return found

    def compute(self, stage: Stage) -> dict[str, Any]:
        """The result of a stage, which is written to its file if it has none yet."""
        if (found := self.result(stage)) is None:
            window, chosen = stage.window, {name: self.strategies[name] for name in stage.strategies}
            task, model, updates, settings = window[1:]
            try:
                if stage.kind == "errors":
                    found = compute.errors(settings, task, model, updates, chosen)
                elif stage.kind == "price":
                    found = compute.price(task, model, *chosen.values())
                else:
                    found = compute.train(settings, task, model, updates, *chosen.values())
            except sj.Error as fault:
                raise sj.Error(f"{stage}: {fault}", exit_code=fault.exit_code) from fault
            self.folder.mkdir(parents=True, exist_ok=True)
            # A file is written whole or not at all, so that a result that is there is complete.
            file = self.file(stage)
            write(file, encode(file.name, found, made_with()))
        return found

    def file(self, stage: Stage) -> Path:
        window = stage.window
        strategies = [self.strategies[name] for name in sorted(stage.strategies)]
        parts = [window.task, getattr(window.task, "dataset", None), window.model, *strategies]
        key: dict[str, Any] = {
            "task": repr(window.task),
            "model": repr(window.model),
            "strategies": repr(strategies),
            "code": _code_of(parts),
        }
        # A price has nothing to do with the runs, and bias and variance nothing with their seeds.
        if stage.kind == "price":
            key["machine"] = machine_key()
        else:
            key |= dataclasses.asdict(window.settings) | {"updates": window.updates}
        if stage.kind == "errors":
            del key["seeds"]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        name = str(stage).replace(",", "").translate(str.maketrans(" :=/", "----"))
        return self.folder / f"{name}-{digest}.json"


def made_with() -> dict[str, str]:
    """The kind of machine, and the versions, with which a result is computed."""
    versions = {package: importlib.metadata.version(package) for package in ("jax", "jaxlib", "numpy", "optax")}
    return {"machine": machine_key(), "python": platform.python_version(), "seqjax": sj.__version__} | versions


def encode(name: str, result: Any, made: Any) -> bytes:
    """The bytes of the file of a result, which has the hash of its own name, of the result, and of `made_with`."""
    sha256 = hashlib.sha256(json.dumps([name, result, made]).encode()).hexdigest()
    return json.dumps({"result": result, "made": made, "sha256": sha256}).encode()


def decode(name: str, data: bytes) -> Any:
    """The result in the file of a stage with this name; None: it is `DAMAGED`."""
    try:
        content = from_json(data)
        result, made = content["result"], content["made"]
    except (ValueError, TypeError, LookupError):
        result = made = None
    # The one text that a result can have in this file.
    return result if data == encode(name, result, made) else None


def _code_of(parts: list[Any]) -> dict[str, str]:
    """The version of seqjax, and the hash of each file that the results depend on and that is no part of it."""
    modules = (compute, baselines, *(sys.modules[type(part).__module__] for part in parts))
    found = dict(sorted(file for module in modules for file in _files_of(module).items()))
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in found.items()}
    # The module of a file of --load has the hash of its path in its name, which differs from folder to folder.
    hashes = {re.sub("^seqjax_local_[0-9a-f]{12}", code, name): code for name, code in hashes.items()}
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

"""The objects of Python in a run that is opened: those that are given, and stand-ins for the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optax

from seqjax.errors import Error, check_type
from seqjax.models.model import ForeignModel, Model
from seqjax.plugin.config import PYTHON_OBJECT, Config, names_object
from seqjax.training.metrics import Metric, check_names, name_of

WORDS = {"model": "a model", "optimizer": "an optimizer", "loss": "a loss", "metrics": "a metric"}
"""The fields of an experiment that may hold objects of Python, with the words for one of them."""
TYPES: dict[str, tuple[Any, str]] = {
    "model": (Model, "the model that from_flax or from_equinox returns"),
    "optimizer": (optax.GradientTransformation, "an optax transformation"),
    "loss": (Callable, "a function (output, target) -> float[]"),
    "metrics": (list | tuple, "the list of metrics that the experiment had"),
}
"""Field -> the type of its object, and what to pass."""


def with_objects(kept: Config, path: Path, given: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The config of a run without the objects that it names, and these objects by field.

    Args:
        kept: the config in the folder of the run.
        path: the folder.
        given: the objects by field, as `Run.open` takes them. Those that are missing are replaced by objects that raise
            an `Error` when they are used.

    Raises:
        Error: an object is given for a field that has none in the run, or is of another type; other metrics are given.
    """
    for name, value in given.items():
        check_type(f"Run.open: {name}", value, *TYPES[name])
    if "metrics" in given:
        _check_metrics(list(kept.get("metrics", ())), given["metrics"])
    objects = {}
    for name in WORDS:
        value = kept.get(name)
        if names_object(value):
            objects[name] = given[name] if name in given else _stand_in(name, value, path)
        elif name in given:
            raise Error(f"{path} was not made with {WORDS[name]} that was given in Python; leave {name} out")
    return {name: value for name, value in kept.items() if name not in objects}, objects


def _check_metrics(kept: list[str], given: Sequence[Any]) -> None:
    """Raises an `Error` unless metrics are those that the config of a run names."""
    names = [name.removeprefix(f"{PYTHON_OBJECT}:") for name in kept]
    problems = check_names(given)
    if not problems and [name_of(one) for one in given] != names:
        problems = [f"the metrics of the run are {', '.join(names)}; give all of them, in this order"]
    if problems:
        raise Error("Run.open: metrics:", problems=problems)


def missing_of(value: Any) -> "Missing | None":
    """The function that a stand-in calls; None for a value that is no stand-in."""
    # Of a metric it is the function, and of an optimizer or a model it is in the place of a function.
    calls = (value, *(getattr(value, name, None) for name in ("function", "init")))
    return next((call for call in calls if isinstance(call, Missing)), None)


@dataclass(frozen=True)
class Missing:
    """A function that raises an `Error` when it is called. It is the stand-in for a loss, and each other one calls it.

    Args:
        name: the name of the function for which it stands.
        field: the field of the experiment.
        path: the folder of the run.
    """

    name: str
    field: str
    path: Path

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        check_given({self.field: self})


def check_given(objects: Mapping[str, Any]) -> None:
    """Raises an `Error` that names all objects of an experiment that are missing; see `ExperimentFields.objects`."""
    missing = [function for value in objects.values() if (function := missing_of(value))]
    if missing:
        fields, path = list(dict.fromkeys(function.field for function in missing)), missing[0].path
        arguments = ", ".join(f"{field}={field}" for field in fields)
        words = " and ".join(WORDS[field] for field in fields)
        raise Error(
            f"{path} was made with objects of Python that its folder does not hold: {words}\n"
            f"Open the run in Python, and give the same again: seqjax.Run.open({str(path)!r}, {arguments})"
        )


def _stand_in(field: str, value: Any, path: Path) -> Any:
    """The stand-in for an object of Python that is not given, or for a tuple of metrics.

    Args:
        field: the field of the experiment.
        value: what the config has in its place.
        path: the folder of the run.
    """
    if field == "metrics":
        own = [str(one).partition(f"{PYTHON_OBJECT}:")[2] for one in value]
        return tuple(
            Metric(name, Missing(name, field, path)) if name else one for name, one in zip(own, value, strict=True)
        )
    missing = Missing(str(value.get("name")), field, path)
    if field == "model":
        return MissingModel(missing.name, missing)
    return optax.GradientTransformation(missing, missing) if field == "optimizer" else missing


@dataclass(frozen=True)
class MissingModel(ForeignModel):
    """The stand-in for a model of another library."""

    name: Any
    """The name of the class of the module."""
    init: Any = field(repr=False, compare=False)
    """The `Missing` that is called in its place."""

    def params_like(self) -> None:
        """Not known."""

    def init_state(self, params, spec, key=None):
        """Raises an `Error`."""
        self.init()

    def step(self, params, state, x):
        """Raises an `Error`."""
        self.init()

"""Plans the runs of a sweep: one for each combination of the values of some fields."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.data.dataset import Data
from seqjax.errors import Error, check_type, quoted
from seqjax.plugin.base import Plugin, fields_of
from seqjax.plugin.config import describe, is_object
from seqjax.plugin.other_names import nearest_field
from seqjax.runs.files.folder import INDEX
from seqjax.runs.run import Experiment
from seqjax.sweeps.index import read_index


class Planned(NamedTuple):
    """A planned run.

    Args:
        variant: its name without the seed.
        experiment: its experiment.
    """

    variant: str
    experiment: Experiment


def in_sweep(out: Path | None, planned: Mapping[str, Planned]) -> dict[str, str]:
    """Name of a planned run -> its name in the sweep in a folder, which need not exist.

    A run that was begun as the only seed of its variant may lack the seed in its name; it is the same run if it is
    planned with others.

    Args:
        out: the folder; None: the runs stay in memory.
        planned: the planned runs by name.

    Raises:
        Error: a name is that of a run with another seed.
    """
    index = read_index(out) if out is not None and (out / INDEX).is_file() else {}
    known = {(entry.variant, entry.seed): name for name, entry in index.items()}
    names = {name: known.get((plan.variant, plan.experiment.seed), name) for name, plan in planned.items()}
    for planned_name, name in names.items():
        seed = planned[planned_name].experiment.seed
        if name in index and index[name].seed != seed:
            raise Error(
                f"{out} has a run {name or 'all'!r} with the seed {index[name].seed}, and this one has {seed}\n"
                f'Name the seed, which becomes a part of the name: --seeds {seed}, or "seed": [{seed}] in Python'
            )
    return names


def combine(experiment: Experiment, axes: Mapping[str, Iterable[Any] | Mapping[str, Any]]) -> dict[str, Planned]:
    """The planned runs by name: all combinations of the values of the axes."""
    check_type("sweep: experiment", experiment, Experiment, "an Experiment")
    check_type("sweep: axes", axes, Mapping, 'a dict of fields and their values, such as {"seed": [0, 1, 2]}')
    for field in axes:
        check_type("sweep: a field", field, str, 'the name of a field of the experiment, such as "model.hidden"')
    ordered = sorted(axes, key=lambda field: field == "seed")  # the seed comes last; the others keep their order
    choices = [_labelled(field, axes[field]) for field in ordered]
    for field, choice in zip(ordered, choices, strict=True):
        if not choice:
            raise Error(f"sweep: {field} has no values")
    plans = {}
    for combination in itertools.product(*(choice.items() for choice in choices)):
        changed = experiment
        for field, (_, value) in zip(ordered, combination, strict=True):
            changed = replace_field(changed, field, value)
        labels = [label for label, _ in combination]
        name, variant = (", ".join(labels[:n]) for n in (len(labels), len(labels) - ("seed" in axes)))
        if name in plans:
            raise Error(f"sweep: two runs would have the name {name!r}; give the values other names")
        plans[name] = Planned(variant, changed)
    return plans


def replace_field(plugin: Any, field: str, value: Any) -> Any:
    """The plugin with another value of a field; `outer.inner` is a field of a plugin in a field."""
    outer, _, inner = field.partition(".")
    known = fields_of(type(plugin))  # type: ignore[arg-type]
    if outer not in known:
        hint = f"{nearest_field(outer, known)} (fields: {', '.join(known)})"
        raise Error(f"sweep: {type(plugin).__name__} has no field {outer!r}{hint}")
    if inner:
        if not isinstance(getattr(plugin, outer), Plugin):
            raise Error(f"sweep: {field!r}: {outer} of {type(plugin).__name__} has no fields of its own")
        value = replace_field(getattr(plugin, outer), inner, value)
    return dataclasses.replace(plugin, **{outer: value})


def _labelled(field: str, values: Any) -> dict[str, Any]:
    """Label -> value of one axis."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise Error(f"sweep: {field} takes a list of values, or a dict of named ones, not {values!r}")
    if isinstance(values, Mapping):
        return {str(label): value for label, value in values.items()}
    values = list(values)
    objects = [value for value in values if is_object(value)]
    names = {value.__name__ for value in objects if hasattr(value, "__name__")}
    if len(names) < len(objects):
        example = f'{{"{field}": {{"mine": ...}}}}'
        raise Error(f"sweep: {field}: objects of Python need names that differ: pass a dict, such as {example}")
    labelled = {f"{field}={_label(value)}": value for value in values}
    if len(labelled) < len(values):
        raise Error(f"sweep: {field} has a value twice: {quoted(labelled)}")
    return labelled


def _label(value: Any) -> Any:
    """A value as a name shows it."""
    if isinstance(value, Data):
        return f"{type(value).__name__} {value.sha256[:8]}"
    return describe(value) if isinstance(value, Plugin) or is_object(value) else value

"""`sweep`: one experiment in many variants, each an ordinary run."""

import dataclasses
import hashlib
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from seqjax import folder
from seqjax.corpus import Data
from seqjax.display import describe
from seqjax.environment import MACHINE
from seqjax.errors import Error, nearest
from seqjax.execute import check, check_environment, ended_run, make_ready
from seqjax.experiment import Experiment
from seqjax.plugin import Plugin, fields_of
from seqjax.recipe import differences, read_recipe
from seqjax.run import Run
from seqjax.runs import INDEX, Place, Runs, check_alike, main_metric, read_index
from seqjax.together import execute_together, varied_floats
from seqjax.train import Diverged


def sweep(
    experiment: Experiment,
    axes: Mapping[str, Iterable[Any] | Mapping[str, Any]],
    out: str | Path | None = None,
    *,
    devices: int | None = None,
    progress: bool = False,
    checkpoint_seconds: float = 30.0,
) -> Runs:
    """Runs every combination of the values of some fields.

    Every run is one that could have been made alone. A sweep that was interrupted goes on, and one that is finished is
    opened. A run that diverges does not end the sweep.

    Args:
        experiment: what does not vary.
        axes: field -> values; `"optimizer.learning_rate"` is a field of a plugin. Values in a dict are named arms;
            others are named `field=value`. The name of a run has the seed last: `"full, seed=0"`.
        out: folder in which each run has its own; None: in memory.
        devices: how many to shard each batch over; None: all, or the most that divide the batch.
        progress: whether to print a line a run.
        checkpoint_seconds: time from one checkpoint of a run to the next, at least.

    Raises:
        Error: an unknown field, a value that it does not take, names that are not different, or a folder with runs
            that differ in more than these fields.
    """
    return run_all(combine(experiment, axes), axes, out, devices, progress, checkpoint_seconds)


Variants = dict[str, tuple[str, Experiment]]
"""Name -> (arm, experiment)."""


def run_all(
    variants: Variants,
    varied: Iterable[str],
    out: str | Path | None,
    devices: int | None,
    progress: bool,
    checkpoint_seconds: float,
) -> Runs:
    """The runs of all variants, which differ in the fields `varied`, each in a folder of its own in `out`."""
    counts = Counter(variant for _, variant in variants.values())
    if repeated := [name for name, (_, variant) in variants.items() if counts[variant] > 1]:
        raise Error(f"sweep: these are one recipe: {', '.join(repeated)}")
    paths = dict.fromkeys(variants) if out is None else _claim(Path(out), variants, varied, devices)
    runs: dict[str, Run] = {}
    if jax.default_backend() != "cpu" and len(jax.devices()) == 1:  # several share the rows of one run instead
        runs |= _side_by_side(variants, paths, checkpoint_seconds)
    for n, (name, (_, variant)) in enumerate(variants.items()):
        began = time.monotonic()
        if name not in runs:
            runs[name] = _run(variant, paths[name], devices, checkpoint_seconds)
        if progress:
            print(
                f"[{n + 1}/{len(variants)}] {name or 'all'}: {_result(runs[name])} ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
    return Runs({name: runs[name] for name in variants}, {name: arm for name, (arm, _) in variants.items()})


def _side_by_side(variants, paths, checkpoint_seconds):
    """The runs that could be trained side by side: new ones that differ in seed and optimizer settings alone."""
    new = {
        name: variant
        for name, (_, variant) in variants.items()
        if not variant.model.is_counted and (paths[name] is None or not paths[name].exists())
    }
    runs: dict[str, Run] = {}
    while new:
        first = next(iter(new.values()))
        group = [name for name, variant in new.items() if varied_floats([first, variant]) is not None]
        together = execute_together([new[name] for name in group], [paths[name] for name in group], checkpoint_seconds)
        runs |= dict(zip(group, together or (), strict=False))
        new = {name: variant for name, variant in new.items() if name not in group}
    return runs


def combine(experiment: Experiment, axes: Mapping[str, Iterable[Any] | Mapping[str, Any]]) -> Variants:
    """The variants that are all combinations of the axes' values."""
    ordered = sorted(axes, key=lambda field: field == "seed")  # which comes last, and else keeps the order
    choices = [_labelled(field, axes[field]) for field in ordered]
    for field, choice in zip(ordered, choices, strict=True):
        if not choice:
            raise Error(f"sweep: {field} has no values")
    found = {}
    for combination in itertools.product(*(choice.items() for choice in choices)):
        variant = experiment
        for field, (_, value) in zip(ordered, combination, strict=True):
            variant = replace_field(variant, field, value)
        labels = [label for label, _ in combination]
        name, arm = (", ".join(labels[:n]) for n in (len(labels), len(labels) - ("seed" in axes)))
        if name in found:
            raise Error(f"sweep: two runs would have the name {name!r}; give the values other names")
        found[name] = arm, variant
    return found


def replace_field(plugin: Any, field: str, value: Any) -> Any:
    """The plugin with another value of a field; `outer.inner` is a field of a plugin in a field."""
    outer, _, inner = field.partition(".")
    known = fields_of(type(plugin))  # type: ignore[arg-type]
    if outer not in known:
        raise Error(
            f"sweep: {type(plugin).__name__} has no field {outer!r}{nearest(outer, known)}; it has {', '.join(known)}"
        )
    if inner:
        if not isinstance(getattr(plugin, outer), Plugin):
            raise Error(f"sweep: {field!r}: {outer} of {type(plugin).__name__} has no fields of its own")
        value = replace_field(getattr(plugin, outer), inner, value)
    return dataclasses.replace(plugin, **{outer: value})


def _labelled(field, values):
    """Label -> value of one axis."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise Error(f"sweep: {field} takes a list of values, or a dict of named ones, not {values!r}")
    if isinstance(values, Mapping):
        return {str(label): value for label, value in values.items()}
    values = list(values)
    found = {f"{field}={_label(value)}": value for value in values}
    if len(found) < len(values):
        raise Error(f"sweep: {field} has a value twice: {', '.join(found)}")
    return found


def _label(value):
    """A value in a name."""
    if isinstance(value, Data):
        return f"{type(value).__name__} {value.sha256[:8]}"
    return describe(value) if isinstance(value, Plugin) else value


def _claim(out, variants, varied, devices):
    """The folder of each run, once the sweep's index has them all.

    Nothing is written where a run cannot be made, or does not belong to those that are there.
    """
    files = {file.name for file in out.iterdir()} if out.is_dir() else set()
    strange = sorted(files - {INDEX + folder.PART, folder.LOCK})
    if strange and INDEX not in strange:
        raise Error(f"{out} holds no sweep, but {', '.join(strange[:3])}; choose another folder")
    _check(out, _index(out, variants), variants, varied, devices)
    with folder.lock(out):
        index = _index(out, variants)  # again: another process may just have added to it
        text = json.dumps({name: place._asdict() for name, place in index.items()}, indent=2, ensure_ascii=False)
        # what UTF-8 lacks, half a symbol, is written as JSON's own escape
        folder.write(out / INDEX, (text + "\n").encode("utf-8", "backslashreplace"))
    return {name: out / index[name].folder for name in variants}


def _index(out, variants):
    """The index of the folder with these variants in it."""
    index = read_index(out) if (out / INDEX).is_file() else {}
    index |= {name: Place(arm, _slug(name)) for name, (arm, _) in variants.items() if name not in index}
    counts = Counter(place.folder for place in index.values())
    if alike := [name for name, place in index.items() if counts[place.folder] > 1]:
        raise Error(f"these names are too much alike to be folders: {', '.join(alike)}")
    return index


def _slug(name):
    """A folder's name: the letters, digits and dots of a name, with dashes between them.

    Where that loses more than what separates them, a hash is behind it, so that two such names have two folders.
    """
    slug = re.sub("[^A-Za-z0-9.]+", "-", name).strip("-.")[:90]
    if not name:
        return "all"
    if slug and _letters(slug) == _letters(name):
        return slug
    return f"{slug}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".strip("-")


def _letters(name):
    """A name without its separators; a dash is one between letters, and else a sign."""
    return re.sub("[ ,:=_]|(?<=[A-Za-z0-9.])-", "", name)


def _check(out, index, variants, varied, devices):
    """An error where an arm cannot be trained, or its runs would not go with those that are there."""
    begun = {name: out / index[name].folder for name in index if (out / index[name].folder / folder.CONFIG).is_file()}
    kept = {index[name].arm: path for name, path in reversed(begun.items())}  # one run of each arm
    recipes = {arm: read_recipe(path) for arm, path in kept.items()}
    for arm, variant in dict(variants.values()).items():
        if arm in recipes:
            check_alike(arm or "all", [recipes[arm], variant])
        elif recipes and (problems := differences(next(iter(recipes.values())), variant, [*varied, "seed"])):
            text = f"{out} holds runs that differ from {arm or 'these'} in what is not varied; choose another folder:"
            raise Error(text, problems=problems)
        if any(of == arm and name not in begun for name, (of, _) in variants.items()):
            run = make_ready(variant, kept.get(arm, out))
            check(run, devices)
            if arm in kept:
                check_environment(run, devices, MACHINE)


def _run(variant, path, devices, checkpoint_seconds):
    ended = ended_run(variant, path)
    if ended is not None:
        return ended
    try:
        return variant.run(path, devices=devices, checkpoint_seconds=checkpoint_seconds)
    except Diverged as fault:
        return fault.run


def _result(run: Run) -> str:
    if run.diverged:
        return "diverged"
    metric = main_metric([run])
    return f"{metric.replace('_', ' ').replace('heldout', 'held-out')} {run.metrics[-1][metric]:.4g}"

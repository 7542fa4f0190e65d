"""Names the variants of runs in single folders, by the fields in which they differ."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from seqjax.data.dataset import Data
from seqjax.plugin import config
from seqjax.plugin.base import Plugin, fields_of
from seqjax.runs.environment import read_environment
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.run import Run


def variant_names(runs: Mapping[str, Run]) -> dict[str, str]:
    """Name of a run -> its variant, which names the fields in which the runs differ, without the seed.

    Args:
        runs: the runs by the name of their folder. If two runs of a variant have the same seed, their names are added
            to that of the variant.
    """
    configs = {name: config.flatten(config.to_config(run.experiment)) for name, run in runs.items()}
    for field, label_of in object_labels(runs).items():
        if field.startswith("metrics.") and len(set(label_of.values())) == 1:
            continue  # the tuple of metrics names it
        for name, label in label_of.items():
            configs[name].pop(f"{field}.name", None)
            configs[name][field if "." in field else f"{field}.plugin"] = label
    keys = dict.fromkeys(key for flat in configs.values() for key in flat)
    varied = [key for key in keys if len({str(flat.get(key)) for flat in configs.values()}) > 1]
    variants = {name: _name(run.experiment, configs[name], varied) for name, run in runs.items()}
    counts = Counter((variants[name], run.experiment.seed) for name, run in runs.items())
    repeated = {variant for (variant, _), count in counts.items() if count > 1}
    return {
        name: ", ".join(filter(None, (variant, name))) if variant in repeated else variant
        for name, variant in variants.items()
    }


def object_labels(runs: Mapping[str, Run]) -> dict[str, dict[str, str]]:
    """Field of an object of Python -> name of a run -> a label, equal for equal objects.

    It is the name of the function or class in the first run with the object; if different objects have one name, also
    the name of this run.

    Args:
        runs: the runs by name, such as their folders. Runs in memory have no fingerprints, and are left out.
    """
    programs: dict[str, dict[str, str]] = {}
    for name, run in runs.items():
        for field, one in read_environment(run.path).objects.items() if run.path and run.experiment.objects else ():
            programs.setdefault(field, {})[name] = one["program"]
    labels = {}
    for field, program_of in programs.items():
        first = {program: name for name, program in reversed(program_of.items())}
        own = {program: config.describe(runs[name].experiment.objects[field]) for program, name in first.items()}
        is_unique = len(set(own.values())) == len(own)
        labels[field] = {
            name: own[program] if is_unique else f"{own[program]} of {first[program]}"
            for name, program in program_of.items()
        }
    return labels


def _name(experiment: ExperimentFields, flat: Mapping[str, Any], varied: Iterable[str]) -> str:
    """The varied fields of a config, as a name. If the plugins of a kind differ, their default fields are left out."""
    words = []
    for key in varied:
        kind, _, field = key.partition(".")
        is_inner = field != "plugin" and f"{kind}.plugin" in varied
        if (
            key != "seed"
            and not (key.startswith("metrics.") and key not in flat)
            and not (is_inner and (key not in flat or _at_default(getattr(experiment, kind), field)))
        ):
            words.append(f"{key.removesuffix('.plugin')}={config.short(flat.get(key, 'none'))}")
    return ", ".join(words)


def _at_default(plugin: object, field: str) -> bool:
    if isinstance(plugin, Data) or not isinstance(plugin, Plugin):  # data in memory; a share that is held out
        return False
    known = fields_of(type(plugin))  # type: ignore[arg-type]
    return field in known and getattr(plugin, field) == known[field].make_default()

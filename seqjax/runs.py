"""`Runs`: many runs, compared."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqjax import config, folder
from seqjax.corpus import Data
from seqjax.environment import MACHINE, changes
from seqjax.errors import Error, nearest
from seqjax.experiment import Experiment
from seqjax.plugin import fields_of
from seqjax.recipe import differences
from seqjax.run import Run
from seqjax.table import Table

INDEX = "sweep.json"
"""The file of a sweep's folder that says which run lies where."""

RESAMPLES = 10_000
"""Bootstrap samples behind an interval."""


class Place(NamedTuple):
    """Where a run of a sweep belongs: its arm, which is all of its name but the seed, and its folder."""

    arm: str
    folder: str


class Runs(Mapping[str, Run]):
    """Runs by name, such as `"full, seed=0"`: the arm, then the seed. What `sweep` returns.

    Args:
        runs: by name.
        arms: the arm of each name: runs of one arm differ in the seed alone; "" stands for "all".

    Raises:
        Error: a run without an arm; runs of one arm that differ in more than the seed, as in their corpus or in JAX's
            precision.
    """

    def __init__(self, runs: Mapping[str, Run], arms: Mapping[str, str]):
        if missing := [name for name in runs if name not in arms]:
            raise Error(f"Runs: these have no arm: {', '.join(missing)}; give each one: its name without the seed")
        self._runs = dict(runs)
        self._arms = {name: arm or "all" for name, arm in arms.items()}
        for arm, group in self.arms.items():
            check_alike(arm, [run.experiment for run in group])
            _check_environments(arm, [run for run in group if run.path is not None])

    @classmethod
    def open(cls, *paths: str | Path) -> "Runs":
        """The runs in these folders: of single runs, whose names tell what differs between them, or of a sweep.

        Raises:
            Error: a folder that holds neither.
        """
        if len(paths) == 1 and (Path(paths[0]) / INDEX).is_file():
            return cls._open_sweep(Path(paths[0]))
        runs = {str(Path(path)): Run.open(path) for path in paths}
        if len({Path(path).resolve() for path in paths}) < len(paths):
            raise Error(f"a run is given twice: {', '.join(map(str, paths))}")
        recipes = {name: flatten(config.to_config(run.experiment)) for name, run in runs.items()}
        keys = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
        varied = [key for key in keys if len({str(recipe.get(key)) for recipe in recipes.values()}) > 1]
        return cls(runs, {name: _arm(run.experiment, recipes[name], varied) for name, run in runs.items()})

    @classmethod
    def _open_sweep(cls, path):
        index = read_index(path)
        missing = [name for name, place in index.items() if not (path / place.folder / folder.CONFIG).is_file()]
        if missing:
            raise Error(f"{path} is unfinished: it has no run {missing[0]!r} yet; the command that began it goes on")
        runs = {name: Run.open(path / place.folder) for name, place in index.items()}
        return cls(runs, {name: place.arm for name, place in index.items()})

    def __getitem__(self, name: str) -> Run:
        if name not in self._runs:
            raise KeyError(f"no run {name!r}{nearest(name, self._runs)}; there are {', '.join(self._runs)}")
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def first(self) -> Run:
        """The first run."""
        return next(iter(self._runs.values()))

    @property
    def arms(self) -> dict[str, list[Run]]:
        """The runs of each arm, which differ in the seed alone."""
        found: dict[str, list[Run]] = {}
        for name, run in self._runs.items():
            found.setdefault(self._arms[name], []).append(run)
        return found

    def metric(self, name: str) -> np.ndarray:
        """One column of the metrics of every run, float64[runs, n]; NaN behind the end of a shorter one."""
        if not any(run.metrics for run in self._runs.values()):
            raise Error("these runs have no metrics: none came to the end of its first epoch")
        columns = [run.metric(name) if run.metrics else np.zeros(0) for run in self._runs.values()]
        n = max(map(len, columns))
        return np.stack([np.pad(column, (0, n - len(column)), constant_values=math.nan) for column in columns])

    def compare(self, metric: str, against: str | None = None) -> Table:
        """What each arm came to: median, lowest and highest of the last value over its seeds.

        With `against` also the mean difference to that arm, paired by seed, and its 95 % bootstrap interval (Efron &
        Tibshirani 1993, 10,000 resamples of the seeds; few seeds give intervals that are too narrow). A run that
        diverged or is unfinished has no value; such runs are counted apart, where there are any.

        Args:
            metric: a column of the metrics, such as `"heldout_perplexity"`.
            against: the name of an arm.

        Raises:
            Error: unknown metric or arm; two runs of one arm with the same seed.
        """
        check_arm(against, self.arms)
        values = {arm: by_seed(arm, runs, metric) for arm, runs in self.arms.items()}
        columns = ["arm", "runs", "median", "low", "high"]
        columns += [] if against is None else ["difference", "from", "to"]
        kinds = {"diverged": lambda run: run.diverged, "unfinished": lambda run: not (run.finished or run.diverged)}
        without = {name: is_so for name, is_so in kinds.items() if any(map(is_so, self._runs.values()))}
        rows = []
        for arm, found in values.items():
            good = [value for value in found.values() if not math.isnan(value)]
            summary = (np.median(good), min(good), max(good)) if good else (math.nan,) * 3
            row = [arm, len(good), *map(float, summary)]
            if against is not None:
                row += [None] * 3 if arm == against else paired_difference(found, values[against])
            rows.append(row + [sum(map(is_so, self.arms[arm])) for is_so in without.values()])
        return Table([*columns, *without], rows)

    def __repr__(self) -> str:
        return f"Runs({len(self)}: {', '.join(self._runs)})"


def read_index(path: Path) -> dict[str, Place]:
    """Where the runs of a sweep are.

    Raises:
        Error: a damaged file (exit code 4); a folder that is not inside the sweep's.
    """
    index = folder.read(
        path / INDEX,
        lambda data: {name: Place(str(place["arm"]), str(place["folder"])) for name, place in json.loads(data).items()},
    )
    for place in index.values():
        plain = re.fullmatch(folder.PLAIN_NAME, place.folder)
        if not plain or (path / place.folder).resolve().parent != path.resolve():
            raise Error(f"{path / INDEX}: not the name of a folder inside {path}: {place.folder!r}")
    return index


def check_arm(against: str | None, arms: Iterable[str]) -> None:
    """An error if there is no arm of this name."""
    known = dict.fromkeys(arms)
    if against is not None and against not in known:
        raise Error(f"no arm {against!r}{nearest(against, known)}; there are {', '.join(known)}")


def check_alike(arm: str, experiments: Sequence[Experiment]) -> None:
    """An error where experiments of one arm differ in more than the seed."""
    first, *others = (replace(experiment, seed=0) for experiment in experiments)
    for other in others:
        if problems := differences(first, other):
            raise Error(
                f"{arm}: its runs differ in more than the seed; compare or sweep them apart:", problems=problems
            )


def _check_environments(arm, runs):
    """An error where runs of one arm were made on different corpora, or by other code or options."""
    if len({run.corpus_sha256 for run in runs}) > 1:
        raise Error(f"{arm}: these runs were trained on different corpora: {', '.join(str(run.path) for run in runs)}")
    records = [folder.read(run.path / folder.ENVIRONMENT, lambda data: json.loads(data)) for run in runs]
    for run, record in zip(runs[1:], records[1:], strict=True):
        if problems := changes(records[0], record, MACHINE):
            text = f"{arm}: {runs[0].path} and {run.path} were made in different environments; compare them apart:"
            raise Error(text, problems=problems)


def main_metric(runs: Iterable[Run]) -> str:
    """What a comparison is of where nothing is said: perplexity, or loss, of the held-out part if there is one."""
    rows = [row for run in runs for row in run.metrics]
    part = "heldout" if not rows or any(not math.isnan(row["heldout_loss"]) for row in rows) else "train"
    return f"{part}_perplexity" if any(f"{part}_perplexity" in row for row in rows) else f"{part}_loss"


def by_seed(arm: str, runs: Sequence[Run], metric: str) -> dict[int, float]:
    """The last value of a metric of each run of an arm."""
    values = {run.experiment.seed: last(run, metric) for run in runs}
    if len(values) < len(runs):
        seeds = [run.experiment.seed for run in runs]
        raise Error(f"{arm}: {len(runs)} runs have the seeds {', '.join(map(str, seeds))}; compare one a seed")
    return values


def last(run: Run, metric: str) -> float:
    """The last value of a metric that there is; NaN for a run that did not come to its end."""
    if not run.finished:
        return math.nan
    values = run.metric(metric)
    known = values[~np.isnan(values)]
    return float(known[-1]) if known.size else math.nan


def paired_difference(values: Mapping[int, float], against: Mapping[int, float]) -> list[float]:
    """Mean of values - against over common seeds, and its 95 % bootstrap interval; NaN where there is too little."""
    d = np.array([values[seed] - against[seed] for seed in values if seed in against])
    d = d[~np.isnan(d)]
    if d.size == 0:
        return [math.nan] * 3
    means = np.random.default_rng(0).choice(d, (RESAMPLES, d.size)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5]) if d.size > 1 else (math.nan, math.nan)
    return [float(d.mean()), float(low), float(high)]


def _arm(experiment, recipe, varied):
    """What tells a recipe from the others; of a plugin that differs from theirs, the fields not at their defaults."""
    words = []
    for key in varied:
        kind, _, field = key.partition(".")
        is_inner = field != "plugin" and f"{kind}.plugin" in varied
        if key != "seed" and not (is_inner and (key not in recipe or _at_default(getattr(experiment, kind), field))):
            words.append(f"{key.removesuffix('.plugin')}={str(recipe.get(key, 'none')).removeprefix('seqjax/')}")
    return ", ".join(words)


def _at_default(plugin, field):
    known = {} if isinstance(plugin, Data) else fields_of(type(plugin))  # type: ignore[arg-type]
    return field in known and getattr(plugin, field) == known[field].make_default()


def flatten(recipe: config.Config, prefix: str = "") -> dict[str, object]:
    """A nested dict with dotted keys."""
    flat: dict[str, object] = {}
    for key, value in recipe.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat

"""`Runs`: many runs of an experiment by name, in variants that are compared."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from seqjax.errors import Error, check_type, nearest, quoted
from seqjax.files import path_of
from seqjax.plugin.config import Config, to_config
from seqjax.report.bootstrap import interval
from seqjax.report.shown import Shown
from seqjax.report.table import Table
from seqjax.runs.environment import MACHINE, read_environment
from seqjax.runs.experiment import differences
from seqjax.runs.files import folder
from seqjax.runs.files.folder import INDEX
from seqjax.runs.run import Run
from seqjax.sweeps.index import read_index
from seqjax.sweeps.variant_names import object_labels, variant_names
from seqjax.terminal.shell import join
from seqjax.training.metrics import best_of


class UnknownRun(Error, KeyError):  # noqa: N818
    """There is no run of this name. It is a `KeyError` too, as those of other mappings are."""

    __str__ = Exception.__str__  # that of `KeyError` would quote the message


class Runs(Shown, Mapping[str, Run]):
    """Runs by name, as `sweep` returns them. A name has the variant, then the seed: `"full, seed=0"`.

    >>> import seqjax as sj
    >>> from seqjax.models import NGram
    >>> base = sj.Experiment(dataset=sj.Text("abc" * 100), model=NGram())
    >>> runs = sj.sweep(base, {"model.order": [1, 2], "seed": [0, 1]})
    >>> list(runs.variants)
    ['model.order=1', 'model.order=2']
    >>> runs.metric("train_perplexity").shape
    (4, 1)
    >>> runs.compare("train_perplexity", which="last").columns
    ('variant', 'runs', 'last', 'last from', 'last to')

    Args:
        runs: the runs by name.
        variant_of: name -> variant. Runs of one variant differ only in the seed. "" stands for "all". None: each run is
            a variant of its own name.

    Raises:
        Error: a run without a variant; runs of one variant that differ in more than the seed, such as in their dataset
            or in JAX's precision.
    """

    def __init__(self, runs: Mapping[str, Run], variant_of: Mapping[str, str] | None = None):
        for name, value in {"runs": runs, "variant_of": {} if variant_of is None else variant_of}.items():
            check_type(f"Runs: {name}", value, Mapping, "a dict whose keys are the names of the runs")
        variant_of = {name: str(name) for name in runs} if variant_of is None else variant_of
        if missing := [name for name in runs if name not in variant_of]:
            raise Error(f"Runs: these have no variant: {quoted(missing)}; give each its name without the seed")
        self._runs = dict(runs)
        self._variant_of = {name: variant or "all" for name, variant in variant_of.items()}
        for variant, group in self.variants.items():
            # Equal experiments may have a plugin that is not registered, of which there is no config.
            if len({dataclasses.replace(run.experiment, seed=0) for run in group}) > 1:
                check_alike(variant, [to_config(run.experiment) for run in group])
            _check_environments(variant, [run for run in group if run.path is not None])

    @classmethod
    def open(cls, *paths: str | Path) -> "Runs":
        """The runs in the folder of a sweep, or in folders of single runs.

        The variants of single runs name the fields that differ. Runs that do not differ, or only in the seed, are one
        variant; if two of them have the same seed, each folder is a variant.

        Raises:
            Error: a folder holds neither.
        """
        folders = [path_of("path", path) for path in paths]
        if len(folders) == 1 and (folders[0] / INDEX).is_file():
            return cls._open_sweep(folders[0])
        runs = {str(path): Run.open(path) for path in folders}
        if len({path.resolve() for path in folders}) < len(folders):
            raise Error(f"a run is given twice: {', '.join(map(str, folders))}")
        return cls(runs, variant_names(runs))

    @classmethod
    def _open_sweep(cls, path: Path) -> "Runs":
        index = read_index(path)
        missing = [name for name, entry in index.items() if not folder.is_run(path / entry.folder)]
        if missing:
            there = [str(path / entry.folder) for name, entry in index.items() if name not in missing]
            these = f"\nTo open only those that are there, name their folders: {join(there)}" if there else ""
            raise Error(
                f"{path} is unfinished: it has no run {missing[0]!r} yet; the command that began it resumes it{these}"
            )
        runs = {name: Run.open(path / entry.folder) for name, entry in index.items()}
        return cls(runs, {name: entry.variant for name, entry in index.items()})

    def __getitem__(self, name: str) -> Run:
        try:
            return self._runs[name]
        except (KeyError, TypeError) as fault:  # a list, which no dict has as a key, is a TypeError
            known = f"{nearest(name, self._runs)}; there are {quoted(self._runs)}"
            raise UnknownRun(f"no run {name!r:.80}{known}") from fault

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def first(self) -> Run:
        """The first run."""
        return next(iter(self._runs.values()))

    @property
    def variants(self) -> dict[str, list[Run]]:
        """The runs of each variant, which differ only in the seed."""
        groups: dict[str, list[Run]] = {}
        for name, run in self._runs.items():
            groups.setdefault(self._variant_of[name], []).append(run)
        return groups

    def is_comparable(self, metric: str) -> bool:
        """Whether a metric means the same in all runs. Losses do not, if the runs were trained with different ones."""
        if metric not in ("train_loss", "heldout_loss"):
            return True
        losses = {name: run.experiment.loss for name, run in self._runs.items()}
        if len(set(losses.values())) == 1:
            return True
        labels = object_labels(self._runs).get("loss", {})  # equal losses of several folders are different objects
        return len({labels.get(name, loss) for name, loss in losses.items()}) == 1

    def metric(self, name: str) -> np.ndarray:
        """One column of the metrics of every run, float64[runs, n]; NaN after the end of a shorter run."""
        if not any(run.metrics for run in self._runs.values()):
            raise Error("these runs have no metrics: none finished its first epoch")
        columns = [run.metric(name) if run.metrics else np.zeros(0) for run in self._runs.values()]
        n = max(map(len, columns))
        return np.stack([np.pad(column, (0, n - len(column)), constant_values=math.nan) for column in columns])

    def compare(
        self, metric: str, against: str | None = None, which: Literal["last", "best", "both"] = "both"
    ) -> Table:
        """A table with a row per variant: the mean over its seeds, and the 95 % bootstrap interval of the mean.

        The column `last` has the value after the last epoch, `best` that after the epoch with the lowest held-out loss.
        Each is followed by the two ends of its interval, which are shown in one cell with it. With `against` there is
        also the mean difference to that variant, paired by seed, and its interval (Efron & Tibshirani 1993, 10,000
        resamples of the seeds; with few seeds an interval is too narrow, and with one there is none). A run that
        diverged or is unfinished has no value; the table counts such runs where there are any.

        `to_latex` shows the best values in bold. For a metric of your own, say which are the best:
        `dataclasses.replace(table, best={"last": "highest"})`.

        Args:
            metric: a column of the metrics, such as `"heldout_perplexity"`.
            against: the name of a variant.
            which: `"last"` or `"best"`: only this epoch of each run. With `"both"`, `best` is left out if no run was
                evaluated on a held-out part.

        Raises:
            Error: unknown metric or variant; two runs of one variant with the same seed.
        """
        if which not in ("last", "best", "both"):
            raise Error(f"which = {which!r}: choose 'last', 'best' or 'both'")
        check_variant(against, self.variants)
        epochs = [which] if which != "both" else ["last", *["best"] * any(run.best_epoch for run in self.values())]
        values = {
            epoch: {variant: by_seed(variant, runs, metric, epoch) for variant, runs in self.variants.items()}
            for epoch in epochs
        }
        ends = ("", " from", " to")
        intervals = epochs + ([] if against is None else [f"{epoch} difference" for epoch in epochs])
        columns = ["variant", "runs", *(mean + end for mean in intervals for end in ends)]
        kinds = {"diverged": lambda run: run.diverged, "unfinished": lambda run: not (run.finished or run.diverged)}
        without = {name: is_so for name, is_so in kinds.items() if any(map(is_so, self._runs.values()))}
        rows = []
        for variant, runs in self.variants.items():
            by_epoch = [values[epoch][variant] for epoch in epochs]
            row = [variant, int(np.sum(~np.isnan(list(by_epoch[0].values()))))]
            row += [number for of_seed in by_epoch for number in mean_interval(list(of_seed.values()))]
            if against is not None:
                for epoch, of_seed in zip(epochs, by_epoch, strict=True):
                    base = values[epoch][against]
                    row += [None] * 3 if variant == against else paired_difference(of_seed, base)
            rows.append(row + [sum(map(is_so, runs)) for is_so in without.values()])
        direction = best_of(metric) if self.is_comparable(metric) else None
        best = {} if direction is None else dict.fromkeys(epochs, direction)
        return Table([*columns, *without], rows, intervals, best)

    def _parts(self) -> list[str | Table]:
        metric = main_metric(self.values())
        return [f"{len(self)} runs, {len(self.variants)} variants, {metric}", self.compare(metric)]

    def __repr__(self) -> str:
        return f"Runs({len(self)}: {quoted(self, 4)})"


def check_variant(against: str | None, variants: Iterable[str]) -> None:
    """Raises an `Error` if there is no variant of this name."""
    known = list(dict.fromkeys(variants))
    if against is not None and against not in known:
        raise Error(f"no variant {against!r}{nearest(against, known)}; there are {quoted(known)}")


def check_alike(variant: str, configs: Sequence[Config], varied: Iterable[str] = ()) -> None:
    """Raises an `Error` if the configs of one variant differ in more than the seed and the fields that are varied."""
    first, *others = configs
    for other in others:
        if problems := differences(first, other, [*varied, "seed"]):
            raise Error(
                f"{variant}: its runs differ in more than the seed; compare them separately:", problems=problems
            )


def _check_environments(variant: str, runs: Sequence[Run]) -> None:
    """Raises an `Error` if runs of one variant, which all have folders, differ in their dataset, code or options."""
    if len({tuple(run.data_hashes.items()) for run in runs}) > 1:
        raise Error(
            f"{variant}: these runs were trained on different datasets: {', '.join(str(run.path) for run in runs)}"
        )
    paths = [run.path for run in runs if run.path is not None]
    records = [read_environment(path) for path in paths]
    # The initial parameters of a model of another library, and those of `init_anew`, differ between seeds.
    differs = any("model" in each.objects for each in records) or any(run.experiment.init_from for run in runs)
    but = (*MACHINE, "initial_params_sha256") if differs else MACHINE
    for path, record in zip(paths[1:], records[1:], strict=True):
        if problems := records[0].differences(record, but):
            text = f"{variant}: {paths[0]} and {path} have different environments; compare them separately:"
            raise Error(text, problems=problems)


def main_metric(runs: Iterable[Run]) -> str:
    """The default metric: of the held-out part, or of the training part if there is none.

    It is the perplexity if all runs have one, and otherwise the loss.
    """
    rows = [row for run in runs for row in run.metrics]
    part = "heldout" if not rows or any(not math.isnan(row["heldout_loss"]) for row in rows) else "train"
    return f"{part}_perplexity" if rows and all(f"{part}_perplexity" in row for row in rows) else f"{part}_loss"


def by_seed(variant: str, runs: Sequence[Run], metric: str, which: str) -> dict[int, float]:
    """Seed -> the value of a metric after the last or the best epoch, for the runs of a variant."""
    value = {"last": last, "best": best}[which]
    values = {run.experiment.seed: value(run, metric) for run in runs}
    if len(values) < len(runs):
        seeds = [run.experiment.seed for run in runs]
        raise Error(f"{variant}: {len(runs)} runs have the seeds {', '.join(map(str, seeds))}; compare one per seed")
    return values


def last(run: Run, metric: str) -> float:
    """The last value of a metric that is not NaN; NaN for a run that is not finished."""
    if not run.finished:
        return math.nan
    values = run.metric(metric)
    known = values[~np.isnan(values)]
    return float(known[-1]) if known.size else math.nan


def best(run: Run, metric: str) -> float:
    """The value of a metric after the best epoch; NaN for a run that is not finished, or was never evaluated."""
    if not run.finished or run.best_epoch is None:
        return math.nan
    return float(run.metric(metric)[run.best_epoch - 1])


def paired_difference(values: Mapping[int, float], against: Mapping[int, float]) -> list[float | None]:
    """Mean of values - against over common seeds, and its 95 % bootstrap interval, as in `mean_interval`."""
    return mean_interval([values[seed] - against[seed] for seed in values if seed in against])


def mean_interval(values: Sequence[float]) -> list[float | None]:
    """The mean of the values that are not NaN, and its 95 % bootstrap interval.

    The mean is NaN if there are no values, and the ends are None if there are fewer than two.
    """
    known = np.array(values, np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return [math.nan, None, None]
    ends = [end.item() for end in interval(known[:, None])] if known.size > 1 else [None, None]
    return [float(known.mean()), *ends]

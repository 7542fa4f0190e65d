"""Many runs of an experiment: trained in variants by `sweep`, kept and compared as `Runs`."""

import dataclasses
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.dataset import Data
from seqjax.data.sampler import draw_plan
from seqjax.errors import Error, escape, nearest, quoted
from seqjax.files import PART
from seqjax.gradients.problem import Params
from seqjax.plugin import config
from seqjax.plugin.base import Plugin, fields_of, values_of
from seqjax.plugin.config import describe
from seqjax.plugin.other_names import nearest_field
from seqjax.report import notebook
from seqjax.report.bootstrap import interval
from seqjax.report.table import Table
from seqjax.runs import folder
from seqjax.runs.begin import check_environment, ended_run
from seqjax.runs.environment import MACHINE, changes, read_environment
from seqjax.runs.execute import check_seconds, execute_side_by_side, make_ready, mirror_finished, training_chunks
from seqjax.runs.experiment import Experiment, differences, goes_on, read_experiment
from seqjax.runs.index import INDEX, IndexEntry, folder_name, read_index, write_index
from seqjax.runs.launching.jobs import JobOptions, check_jobs, job_configs, launch
from seqjax.runs.launching.launcher import Launcher
from seqjax.runs.launching.state import ENDED, JOBS, states
from seqjax.runs.record import complete
from seqjax.runs.run import Run
from seqjax.runs.tracking.tracker import Tracker
from seqjax.terminal.shell import join
from seqjax.terminal.stream import say
from seqjax.training.fit import GradientDescent
from seqjax.training.join import check_alone
from seqjax.training.loop import Diverged
from seqjax.training.optimizer import Optimizer


class Runs(Mapping[str, Run]):
    """Runs by name, as `sweep` returns them. A name has the variant, then the seed: `"full, seed=0"`.

    Args:
        runs: the runs by name.
        variant_of: name -> variant. Runs of one variant differ only in the seed. "" stands for "all".

    Raises:
        Error: a run without a variant; runs of one variant that differ in more than the seed, such as in their dataset
            or in JAX's precision.
    """

    def __init__(self, runs: Mapping[str, Run], variant_of: Mapping[str, str]):
        if missing := [name for name in runs if name not in variant_of]:
            raise Error(f"Runs: these have no variant: {quoted(missing)}; give each its name without the seed")
        self._runs = dict(runs)
        self._variant_of = {name: variant or "all" for name, variant in variant_of.items()}
        for variant, group in self.variants.items():
            check_alike(variant, [run.experiment for run in group])
            _check_environments(variant, [run for run in group if run.path is not None])

    @classmethod
    def open(cls, *paths: str | Path) -> "Runs":
        """The runs in the folder of a sweep, or in folders of single runs, whose variants name the fields that differ.

        Raises:
            Error: a folder holds neither.
        """
        if len(paths) == 1 and (Path(paths[0]) / INDEX).is_file():
            return cls._open_sweep(Path(paths[0]))
        runs = {str(Path(path)): Run.open(path) for path in paths}
        if len({Path(path).resolve() for path in paths}) < len(paths):
            raise Error(f"a run is given twice: {', '.join(map(str, paths))}")
        configs = {name: config.flatten(config.to_config(run.experiment)) for name, run in runs.items()}
        keys = dict.fromkeys(key for flat in configs.values() for key in flat)
        varied = [key for key in keys if len({str(flat.get(key)) for flat in configs.values()}) > 1]
        return cls(runs, {name: _variant_name(run.experiment, configs[name], varied) for name, run in runs.items()})

    @classmethod
    def _open_sweep(cls, path):
        index = read_index(path)
        missing = [name for name, entry in index.items() if not (path / entry.folder / folder.CONFIG).is_file()]
        if missing:
            there = [str(path / entry.folder) for name, entry in index.items() if name not in missing]
            these = f"\nTo open only those that are there, name their folders: {join(there)}" if there else ""
            raise Error(
                f"{path} is unfinished: it has no run {missing[0]!r} yet; the command that began it resumes it{these}"
            )
        runs = {name: Run.open(path / entry.folder) for name, entry in index.items()}
        return cls(runs, {name: entry.variant for name, entry in index.items()})

    def __getitem__(self, name: str) -> Run:
        if name not in self._runs:
            raise KeyError(f"no run {name!r}{nearest(name, self._runs)}; there are {quoted(self._runs)}")
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
    def variants(self) -> dict[str, list[Run]]:
        """The runs of each variant, which differ only in the seed."""
        found: dict[str, list[Run]] = {}
        for name, run in self._runs.items():
            found.setdefault(self._variant_of[name], []).append(run)
        return found

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

        The column `last` has the value after the last epoch, `best` that after the epoch with the lowest held-out loss;
        each is followed by the two ends of its interval. With `against` there is also the mean difference to that
        variant, paired by seed, and its interval (Efron & Tibshirani 1993, 10,000 resamples of the seeds; with few
        seeds an interval is too narrow, and with one there is none). A run that diverged or is unfinished has no value;
        the table counts such runs where there are any.

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
        columns = ["variant", "runs", *(epoch + end for epoch in epochs for end in ends)]
        columns += [] if against is None else [f"{epoch} difference{end}" for epoch in epochs for end in ends]
        kinds = {"diverged": lambda run: run.diverged, "unfinished": lambda run: not (run.finished or run.diverged)}
        without = {name: is_so for name, is_so in kinds.items() if any(map(is_so, self._runs.values()))}
        rows = []
        for variant, runs in self.variants.items():
            found = [values[epoch][variant] for epoch in epochs]
            row = [variant, int(np.sum(~np.isnan(list(found[0].values()))))]
            row += [number for of_seed in found for number in mean_interval(list(of_seed.values()))]
            if against is not None:
                for epoch, of_seed in zip(epochs, found, strict=True):
                    base = values[epoch][against]
                    row += [None] * 3 if variant == against else paired_difference(of_seed, base)
            rows.append(row + [sum(map(is_so, runs)) for is_so in without.values()])
        return Table([*columns, *without], rows)

    def page(self, file: str | Path, metric: str | None = None, against: str | None = None) -> None:
        """Writes one HTML file with the results, curves, experiments, samples and figures of these runs.

        Args:
            file: is written. It contains all that it shows, and needs no network.
            metric: the metric that is shown first; None: the main one.
            against: as in `compare`.

        Raises:
            Error: as in `compare`; exit code 6: the file cannot be written.
        """
        from seqjax.runs.page import write_page

        write_page(self, Path(file), metric or main_metric(self.values()), against)

    def _repr_html_(self) -> str:
        metric = main_metric(self.values())
        return notebook.show(
            lambda: notebook.text(f"{len(self)} runs, {len(self.variants)} variants, {metric}"),
            lambda: self.compare(metric).to_html(),
        )

    def __repr__(self) -> str:
        return f"Runs({len(self)}: {quoted(self, 4)})"


def check_variant(against: str | None, variants: Iterable[str]) -> None:
    """Raises an `Error` if there is no variant of this name."""
    known = dict.fromkeys(variants)
    if against is not None and against not in known:
        raise Error(f"no variant {against!r}{nearest(against, known)}; there are {quoted(known)}")


def check_alike(variant: str, experiments: Sequence[Experiment]) -> None:
    """Raises an `Error` if experiments of one variant differ in more than the seed."""
    first, *others = (dataclasses.replace(experiment, seed=0) for experiment in experiments)
    for other in others:
        if problems := differences(first, other):
            raise Error(
                f"{variant}: its runs differ in more than the seed; compare them separately:", problems=problems
            )


def _check_environments(variant, runs):
    """Raises an `Error` if runs of one variant differ in their dataset, code or options."""
    if len({tuple(run.data_hashes.items()) for run in runs}) > 1:
        raise Error(
            f"{variant}: these runs were trained on different datasets: {', '.join(str(run.path) for run in runs)}"
        )
    records = [read_environment(run.path) for run in runs]
    for run, record in zip(runs[1:], records[1:], strict=True):
        if problems := changes(records[0], record, MACHINE):
            text = f"{variant}: {runs[0].path} and {run.path} have different environments; compare them separately:"
            raise Error(text, problems=problems)


def main_metric(runs: Iterable[Run]) -> str:
    """The default metric: perplexity (or loss) of the held-out part, or of the training part if there is none."""
    rows = [row for run in runs for row in run.metrics]
    part = "heldout" if not rows or any(not math.isnan(row["heldout_loss"]) for row in rows) else "train"
    return f"{part}_perplexity" if any(f"{part}_perplexity" in row for row in rows) else f"{part}_loss"


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


def _variant_name(experiment, flat, varied):
    """The varied fields of a config, as a name. If the plugins of a kind differ, their default fields are left out."""
    words = []
    for key in varied:
        kind, _, field = key.partition(".")
        is_inner = field != "plugin" and f"{kind}.plugin" in varied
        if key != "seed" and not (is_inner and (key not in flat or _at_default(getattr(experiment, kind), field))):
            words.append(f"{key.removesuffix('.plugin')}={str(flat.get(key, 'none')).removeprefix('seqjax/')}")
    return ", ".join(words)


def _at_default(plugin, field):
    if isinstance(plugin, Data) or not isinstance(plugin, Plugin):  # data in memory; a share that is held out
        return False
    known = fields_of(type(plugin))  # type: ignore[arg-type]
    return field in known and getattr(plugin, field) == known[field].make_default()


def sweep(
    experiment: Experiment,
    axes: Mapping[str, Iterable[Any] | Mapping[str, Any]],
    out: str | Path | None = None,
    *,
    devices: int | None = None,
    progress: bool = False,
    checkpoint_seconds: float = 30.0,
    tracker: Tracker | None = None,
    launcher: Launcher | None = None,
    params: Params | None = None,
) -> Runs:
    """Runs every combination of the values of some fields.

    Every run equals the one that is made alone; on an accelerator, runs that are trained side by side equal it up to
    rounding. An interrupted sweep is resumed, and a finished one is opened. A run that diverges does not end the sweep.

    Args:
        experiment: the experiment whose fields are varied.
        axes: field -> values; `"optimizer.learning_rate"` is a field of a plugin. Values in a dict are named variants;
            others are named `field=value`. The name of a run has the seed last: `"full, seed=0"`.
        out: the folder of the sweep, in which each run has a folder; None: in memory.
        devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
        progress: whether to print one line for each run.
        checkpoint_seconds: time from one checkpoint of a run to the next, at least.
        tracker: mirrors each run, as in `Experiment.run`.
        launcher: makes the runs in other processes, or as jobs of a cluster; None: in this process, one after the
            other. A launcher may return before its jobs end; then only the runs that have ended are returned, and
            `Runs.open(out)` opens all of them later.
        params: the initial parameters of all runs, as in `Experiment.run`, such as those that `from_flax` returns with
            a model. All seeds start from them then. They cannot be given to a launcher.

    Raises:
        Error: an unknown field, an invalid value, two runs of one name, or a folder with runs that differ in more than
            these fields; jobs failed.
    """
    planned = combine(experiment, axes)
    if launcher is not None and params is not None:
        raise Error("sweep: params cannot be sent to the processes of a launcher; leave out the launcher")
    runs = run_all(planned, axes, out, devices, progress, checkpoint_seconds, tracker, launcher, params)
    if launcher is not None and out is not None:
        check_jobs(Path(out), planned)
    return runs


class Planned(NamedTuple):
    """A planned run.

    Args:
        variant: its name without the seed.
        experiment: its experiment.
    """

    variant: str
    experiment: Experiment


def run_all(
    planned: Mapping[str, Planned],
    varied: Iterable[str],
    out: str | Path | None,
    devices: int | None,
    progress: bool,
    checkpoint_seconds: float,
    tracker: Tracker | None = None,
    launcher: Launcher | None = None,
    params: Params | None = None,
) -> Runs:
    """Makes runs that differ in some fields, each in a folder of its own.

    Args:
        planned: the planned runs by name.
        varied: the fields in which they differ.
        out: folder of the sweep; None: in memory.
        devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
        progress: whether to print one line for each run.
        checkpoint_seconds: time from one checkpoint of a run to the next, at least.
        tracker: mirrors each run; None: they are not mirrored.
        launcher: makes the runs elsewhere; None: in this process.
        params: the initial parameters of all runs, if they are made in this process; None: each run draws its own.

    Raises:
        Error: two runs are the same experiment; the folder holds other files, or runs that differ in other fields.
    """
    check_alone("a sweep", jax.process_count())
    check_seconds(checkpoint_seconds)
    counts = Counter(plan.experiment for plan in planned.values())
    if repeated := [name for name, plan in planned.items() if counts[plan.experiment] > 1]:
        raise Error(f"sweep: these are the same experiment: {quoted(repeated)}")
    if launcher is not None and not isinstance(launcher, Launcher):
        raise Error(f"launcher = {launcher!r:.60} is no launcher; pass one, such as create('launcher', name)")
    if launcher is not None and out is None:
        raise Error("sweep: a launcher makes runs in other processes, which need folders; give it out")
    if out is not None:
        _check(Path(out), planned, varied, devices)
    if launcher is not None and out is not None:
        experiments = {name: plan.experiment for name, plan in planned.items()}
        configs = job_configs(experiments)
        with folder.lock(
            folder.inner_folder(Path(out), JOBS)
        ):  # first: a sweep that is refused adds no runs to the index
            paths = _claim(Path(out), planned)
            options = JobOptions(devices, checkpoint_seconds, tracker)
            launch(Path(out), experiments, configs, launcher, options, progress)
        ended = _open_ended(Path(out), paths)
        return Runs(ended, {name: planned[name].variant for name in ended})
    paths = dict.fromkeys(planned) if out is None else _claim(Path(out), planned)
    runs: dict[str, Run] = {}
    on_one_device = jax.default_backend() != "cpu" and len(jax.devices()) == 1  # several share the rows of one run
    if on_one_device and params is None:
        runs |= _side_by_side(planned, paths, checkpoint_seconds, tracker)
    for n, (name, plan) in enumerate(planned.items()):
        began = time.monotonic()
        if name not in runs:
            runs[name] = _run(plan.experiment, paths[name], devices, checkpoint_seconds, tracker, params)
        if progress:
            done, seconds = f"[{n + 1}/{len(planned)}]", time.monotonic() - began
            say(f"{done} {escape(name or 'all')}: {_result(runs[name])} ({seconds:.0f} s)")
    return Runs({name: runs[name] for name in planned}, {name: plan.variant for name, plan in planned.items()})


def _open_ended(out, paths):
    """The runs that have ended, by name, where a launcher makes them."""
    ended = {state.name for state in states(out) if state.state in ENDED}
    runs = {name: Run.open(path) for name, path in paths.items() if name in ended}
    for run in runs.values():
        complete(run)  # its process may have been killed after it had written the parameters
    return runs


def _side_by_side(planned, paths, checkpoint_seconds, tracker):
    """Trains side by side the new runs that differ only in the seed and in settings of the optimizer."""
    new = {
        name: plan.experiment
        for name, plan in planned.items()
        if isinstance(plan.experiment.fit(), GradientDescent) and (paths[name] is None or not paths[name].exists())
    }
    runs: dict[str, Run] = {}
    while new:
        first = next(iter(new.values()))
        group = {name: e for name, e in new.items() if varied_floats([first, e]) is not None}
        new = {name: e for name, e in new.items() if name not in group}
        fields = varied_floats(list(group.values()))
        if fields is not None and _have_equal_epochs(list(group.values())):
            folders = [paths[name] for name in group]
            made = execute_side_by_side(list(group.values()), folders, fields, checkpoint_seconds, tracker)
            runs |= dict(zip(group, made or (), strict=False))
    return runs


def varied_floats(experiments: Sequence[Experiment]) -> dict[str, list[float]] | None:
    """The float fields of the optimizer in which experiments differ, if one compiled call can train them all.

    None if they differ in more than these fields and the seed, or if the states of their optimizers differ in
    structure, as with and without a warm-up.
    """
    optimizers: list[Any] = [experiment.optimizer for experiment in experiments]
    if len(set(map(type, optimizers))) > 1 or not isinstance(optimizers[0], Optimizer):
        return None
    columns = {name: [getattr(o, name) for o in optimizers] for name in values_of(optimizers[0])}
    floats = {
        name: column
        for name, column in columns.items()
        if len(set(column)) > 1 and all(isinstance(value, float) for value in column)
    }
    plain = {name: column[0] for name, column in floats.items()}
    rest = [
        dataclasses.replace(experiment, seed=0, optimizer=dataclasses.replace(optimizer, **plain))
        for experiment, optimizer in zip(experiments, optimizers, strict=True)
    ]
    if any(experiment != rest[0] for experiment in rest):
        return None
    states = [jax.eval_shape(optimizer.build(1).init, jnp.zeros(())) for optimizer in optimizers]
    return floats if len(set(map(jax.tree.structure, states))) == 1 else None


def _have_equal_epochs(experiments):
    """Whether every epoch has the same number of batches in all experiments, which share their data."""
    setup = experiments[0].setup()
    bounds = make_ready(experiments[0], None).prepared.streams["train"].bounds
    return all(
        len({len(draw_plan(setup.sampler, bounds, e.seed, epoch).starts) for e in experiments}) == 1
        for epoch in range(setup.epochs)
    )


def combine(experiment: Experiment, axes: Mapping[str, Iterable[Any] | Mapping[str, Any]]) -> dict[str, Planned]:
    """The planned runs by name: all combinations of the values of the axes."""
    ordered = sorted(axes, key=lambda field: field == "seed")  # the seed comes last; the others keep their order
    choices = [_labelled(field, axes[field]) for field in ordered]
    for field, choice in zip(ordered, choices, strict=True):
        if not choice:
            raise Error(f"sweep: {field} has no values")
    found = {}
    for combination in itertools.product(*(choice.items() for choice in choices)):
        changed = experiment
        for field, (_, value) in zip(ordered, combination, strict=True):
            changed = replace_field(changed, field, value)
        labels = [label for label, _ in combination]
        name, variant = (", ".join(labels[:n]) for n in (len(labels), len(labels) - ("seed" in axes)))
        if name in found:
            raise Error(f"sweep: two runs would have the name {name!r}; give the values other names")
        found[name] = Planned(variant, changed)
    return found


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


def _labelled(field, values):
    """Label -> value of one axis."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise Error(f"sweep: {field} takes a list of values, or a dict of named ones, not {values!r}")
    if isinstance(values, Mapping):
        return {str(label): value for label, value in values.items()}
    values = list(values)
    found = {f"{field}={_label(value)}": value for value in values}
    if len(found) < len(values):
        raise Error(f"sweep: {field} has a value twice: {quoted(found)}")
    return found


def _label(value):
    """A value as a name shows it."""
    if isinstance(value, Data):
        return f"{type(value).__name__} {value.sha256[:8]}"
    return describe(value) if isinstance(value, Plugin) else value


def _claim(out, planned):
    """Adds the runs to the index of the sweep, and returns the folder of each."""
    with folder.lock(out):
        folder.remove_parts(out)
        index = _index(out, planned)
        write_index(out, index)
    return {name: out / index[name].folder for name in planned}


def _index(out, planned):
    """The index of the folder with these runs in it."""
    index = read_index(out) if (out / INDEX).is_file() else {}
    index |= {name: IndexEntry(plan.variant, folder_name(name)) for name, plan in planned.items() if name not in index}
    counts = Counter(entry.folder for entry in index.values())
    if alike := [name for name, entry in index.items() if counts[entry.folder] > 1]:
        raise Error(f"these names give the same folder: {quoted(alike)}")
    return index


def _check(out, planned, varied, devices):
    """Raises an `Error`, and writes nothing, if a variant cannot be trained or does not belong to the sweep there."""
    files = {file.name for file in out.iterdir()} if out.is_dir() else set()
    strange = sorted(name for name in files if name not in (folder.LOCK, JOBS) and not name.endswith(PART))
    if strange and INDEX not in strange:
        raise Error(f"{out} holds no sweep, but {', '.join(strange[:3])}; choose another folder")
    index = _index(out, planned)
    begun = {name: out / index[name].folder for name in index if (out / index[name].folder / folder.CONFIG).is_file()}
    kept = {index[name].variant: path for name, path in reversed(begun.items())}  # one run of each variant
    known = {variant: read_experiment(path) for variant, path in kept.items()}
    asked = {plan.variant: plan.experiment for plan in planned.values()}
    # A variant whose runs are all asked for again, with more epochs, will have them.
    partly = {index[name].variant for name in begun if name not in planned}
    known = {
        variant: dataclasses.replace(experiment, epochs=asked[variant].epochs)
        if variant in asked and variant not in partly and goes_on(experiment, asked[variant])
        else experiment
        for variant, experiment in known.items()
    }
    for variant, experiment in asked.items():
        if variant in known:
            check_alike(variant or "all", [known[variant], experiment])
        elif known and (problems := differences(next(iter(known.values())), experiment, [*varied, "seed"])):
            what = f"{out} holds runs that differ from {variant or 'these'} in fields that are not varied"
            raise Error(f"{what}; choose another folder:", problems=problems)
        if any(plan.variant == variant and name not in begun for name, plan in planned.items()):
            run, fit = make_ready(experiment, kept.get(variant, out)), experiment.fit(devices)
            training_chunks(run, fit)  # for its errors: nothing is trained before the first chunk is taken
            if variant in kept:
                # The precision in which a run is computed is measured when it begins.
                check_environment(run, fit, (*MACHINE, "precision"))


def _run(experiment, path, devices, checkpoint_seconds, tracker, params):
    ended = ended_run(experiment, path)
    if ended is not None:
        complete(ended)
        mirror_finished(ended, tracker)
        return ended
    try:
        return experiment.run(
            path, devices=devices, checkpoint_seconds=checkpoint_seconds, tracker=tracker, params=params
        )
    except Diverged as fault:
        return fault.run


def _result(run: Run) -> str:
    if run.diverged:
        return "diverged"
    metric = main_metric([run])
    return f"{metric.replace('_', ' ').replace('heldout', 'held-out')} {run.metrics[-1][metric]:.4g}"

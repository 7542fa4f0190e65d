"""`sweep`: trains many runs of an experiment, one for each combination of the values of some fields."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.data.dataset import Data
from seqjax.data.sampler import draw_plan
from seqjax.errors import Error, check_type, quoted
from seqjax.files import PART, path_of
from seqjax.gradients.problem import Params
from seqjax.plugin.base import Plugin, fields_of, values_of
from seqjax.plugin.config import decode_toml, describe, is_object
from seqjax.plugin.other_names import nearest_field
from seqjax.runs import stored
from seqjax.runs.begin import check_environment, check_kept, check_objects_and_params, environment_of
from seqjax.runs.environment import MACHINE
from seqjax.runs.execute import check_seconds, execute_side_by_side, training_chunks
from seqjax.runs.experiment import config_bytes, differences, goes_on
from seqjax.runs.files import folder
from seqjax.runs.files.folder import INDEX
from seqjax.runs.files.manifest import check_files
from seqjax.runs.files.store import read_run
from seqjax.runs.run import Experiment, Run, prepared
from seqjax.runs.settings import CHECKPOINT_SECONDS
from seqjax.runs.tracking.tracker import Tracker
from seqjax.sweeps.index import IndexEntry, folder_name, names_in, read_index, write_index
from seqjax.sweeps.launching.jobs import JobOptions, check_jobs, job_configs, launch
from seqjax.sweeps.launching.launcher import Launcher
from seqjax.sweeps.launching.state import ENDED, JOBS, states
from seqjax.sweeps.runs import Runs, check_alike, main_metric
from seqjax.terminal.counted import CountedDisplay
from seqjax.terminal.live import shows_progress
from seqjax.training.fit import GradientDescent
from seqjax.training.join import check_alone
from seqjax.training.loop import Diverged
from seqjax.training.optimizer import Optimizer


def sweep(
    experiment: Experiment,
    axes: Mapping[str, Iterable[Any] | Mapping[str, Any]],
    out: str | Path | None = None,
    *,
    devices: int | None = None,
    progress: bool | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    tracker: Tracker | None = None,
    launcher: Launcher | None = None,
    params: Params | None = None,
) -> Runs:
    """Runs every combination of the values of some fields.

    Every run equals the one that is made alone; on an accelerator, runs that are trained side by side equal it up to
    rounding. An interrupted sweep is resumed, and a finished one is opened; with other values or seeds, only the runs
    that are missing are made. A run that diverges does not end the sweep.

    >>> import seqjax as sj
    >>> from seqjax_models import NGram
    >>> base = sj.Experiment(dataset=sj.Text("abc" * 100))
    >>> runs = sj.sweep(base, {"model": {"single": NGram(order=1), "pairs": NGram(order=2)}, "seed": [0, 1]})
    >>> list(runs)
    ['single, seed=0', 'single, seed=1', 'pairs, seed=0', 'pairs, seed=1']
    >>> runs["pairs, seed=1"].generate("ab", 4)
    'abcabc'

    Args:
        experiment: the experiment whose fields are varied.
        axes: field -> values; `"optimizer.learning_rate"` is a field of a plugin. Values in a dict are named variants;
            others are named `field=value`. The name of a run has the seed last: `"full, seed=0"`.
        out: the folder of the sweep, in which each run has a folder; None: in memory.
        devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
        progress: whether to print a line for each run, and on a terminal and in a notebook a live line for the one that
            is trained; None: on a terminal and in a notebook.
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
    out = None if out is None else path_of("sweep: out", out)
    if launcher is not None and params is not None:
        raise Error("sweep: params cannot be sent to the processes of a launcher; leave out the launcher")
    names = in_sweep(out, planned)
    kept = {names[name]: plan for name, plan in planned.items()}
    runs = run_all(kept, axes, out, devices, shows_progress(progress), checkpoint_seconds, tracker, launcher, params)
    if launcher is not None and out is not None:
        check_jobs(Path(out), kept)
    if kept.keys() == planned.keys():
        return runs
    made = {name: runs[names[name]] for name in planned if names[name] in runs}
    return Runs(made, {name: planned[name].variant for name in made})


class Planned(NamedTuple):
    """A planned run.

    Args:
        variant: its name without the seed.
        experiment: its experiment.
    """

    variant: str
    experiment: Experiment


def in_sweep(out: Path | None, planned: Mapping[str, Planned]) -> dict[str, str]:
    """Name of a planned run -> its name in the folder of the sweep, as `names_in` returns it."""
    seeds = {name: (plan.variant, plan.experiment.seed) for name, plan in planned.items()}
    return {name: name for name in planned} if out is None else names_in(out, seeds)


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
        planned: the planned runs by their names in the sweep.
        varied: the fields in which they differ.
        out: folder of the sweep; None: in memory.
        devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
        progress: whether to show the progress, as in `sweep`.
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
        _check(Path(out), planned, varied, devices, params)
    if launcher is not None and out is not None:
        experiments = {name: plan.experiment for name, plan in planned.items()}
        configs = job_configs(experiments)
        # The lock comes first, so that a sweep that is refused adds no runs to the index.
        with folder.lock(folder.inner_folder(Path(out), JOBS)):
            folders = _claim(Path(out), planned)
            options = JobOptions(devices, checkpoint_seconds, tracker)
            launch(Path(out), experiments, configs, launcher, options, progress)
        ended = _open_ended(Path(out), folders)
        return Runs(ended, {name: planned[name].variant for name in ended})
    paths: Mapping[str, Path | None] = dict.fromkeys(planned) if out is None else _claim(Path(out), planned)
    runs: dict[str, Run] = {}
    on_one_device = jax.default_backend() != "cpu" and len(jax.devices()) == 1  # several share the rows of one run
    with CountedDisplay(len(planned), progress, "preparing", alike=True) as display:
        if on_one_device and params is None:
            runs |= _side_by_side(planned, paths, checkpoint_seconds, tracker, display.show_text)
        for name, plan in planned.items():
            display.begin(name or "all")
            if name not in runs:
                callback = lambda run: display.update(_epoch(run))
                runs[name] = _run(plan.experiment, paths[name], devices, checkpoint_seconds, tracker, params, callback)
            display.end(_result(runs[name]))
    return Runs({name: runs[name] for name in planned}, {name: plan.variant for name, plan in planned.items()})


def _open_ended(out: Path, paths: Mapping[str, Path]) -> dict[str, Run]:
    """The runs that have ended, by name, where a launcher makes them."""
    ended = {state.name for state in states(out) if state.state in ENDED}
    return {name: Run.open(path) for name, path in paths.items() if name in ended}


def _side_by_side(
    planned: Mapping[str, Planned],
    paths: Mapping[str, Path | None],
    checkpoint_seconds: float,
    tracker: Tracker | None,
    show: Callable[[str], None] = lambda text: None,
) -> dict[str, Run]:
    """Trains side by side the new runs that differ only in the seed and in settings of the optimizer.

    A run that starts from the parameters of another run is left out, since runs side by side draw their own.
    """
    new = {
        name: plan.experiment
        for name, plan in planned.items()
        if isinstance(plan.experiment.fit(), GradientDescent)
        and plan.experiment.init_from is None
        and ((path := paths[name]) is None or not path.exists())
    }
    runs: dict[str, Run] = {}
    while new:
        first = next(iter(new.values()))
        group = {name: e for name, e in new.items() if varied_floats([first, e]) is not None}
        new = {name: e for name, e in new.items() if name not in group}
        fields = varied_floats(list(group.values()))
        if fields is not None and _have_equal_epochs(list(group.values())):
            folders = [paths[name] for name in group]
            head = f"{len(group)} runs side by side"
            callback = lambda run, head=head: show(f"{head}: {_epoch(run)}")
            made = execute_side_by_side(
                list(group.values()), folders, fields, checkpoint_seconds, tracker, Run, callback
            )
            runs |= dict(zip(group, made, strict=True))
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


def _have_equal_epochs(experiments: Sequence[Experiment]) -> bool:
    """Whether every epoch has the same number of batches in all experiments, which share their data."""
    setup = experiments[0].setup()
    bounds = experiments[0].prepare().streams["train"].bounds
    return all(
        len({len(draw_plan(setup.sampler, bounds, e.seed, epoch).starts) for e in experiments}) == 1
        for epoch in range(setup.epochs)
    )


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


def _claim(out: Path, planned: Mapping[str, Planned]) -> dict[str, Path]:
    """Adds the runs to the index of the sweep, and returns the folder of each."""
    with folder.lock(out):
        folder.remove_parts(out)
        index = _index(out, planned)
        write_index(out, index)
    return {name: out / index[name].folder for name in planned}


def _index(out: Path, planned: Mapping[str, Planned]) -> dict[str, IndexEntry]:
    """The index of the folder with these runs in it."""
    index = read_index(out) if (out / INDEX).is_file() else {}
    index |= {
        name: IndexEntry(plan.variant, plan.experiment.seed, folder_name(name))
        for name, plan in planned.items()
        if name not in index
    }
    counts = Counter(entry.folder for entry in index.values())
    if alike := [name for name, entry in index.items() if counts[entry.folder] > 1]:
        raise Error(f"these names give the same folder: {quoted(alike)}")
    return index


def _check(
    out: Path, planned: Mapping[str, Planned], varied: Iterable[str], devices: int | None, params: Params | None
) -> None:
    """Raises an `Error`, and writes nothing, if a variant cannot be trained or does not belong to the sweep there."""
    files = {file.name for file in out.iterdir()} if out.is_dir() else set()
    strange = sorted(name for name in files if name not in (folder.LOCK, JOBS) and not name.endswith(PART))
    if strange and INDEX not in strange:
        raise Error(f"{out} holds no sweep, but {', '.join(strange[:3])}; choose another folder")
    index = _index(out, planned)
    begun = {name: out / index[name].folder for name in index if folder.is_run(out / index[name].folder)}
    kept = {index[name].variant: path for name, path in reversed(begun.items())}  # one run of each variant
    for path in kept.values():
        check_files(path)
    known = {variant: stored.read_experiment(path, Experiment) for variant, path in kept.items()}
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
            config_bytes(experiment)
            run, fit = prepared(experiment, devices, params)
            training_chunks(run, fit)  # for its errors: nothing is trained before the first chunk is taken
            if variant in kept:
                check_objects_and_params(kept[variant], run, fit)
                # The precision in which a run is computed is measured when it begins.
                check_environment(kept[variant], environment_of(run, fit), (*MACHINE, "precision"))
    # Otherwise the sweep could end half way, with runs of both numbers of epochs.
    for name, plan in planned.items():
        if name not in begun:
            continue
        run_folder = begun[name]
        if folder.read(run_folder / folder.CONFIG, decode_toml)["epochs"] < plan.experiment.epochs:
            check_kept(run_folder, plan.experiment, stored.decode_training(run_folder, read_run(run_folder)))


def _run(
    experiment: Experiment,
    path: Path | None,
    devices: int | None,
    checkpoint_seconds: float,
    tracker: Tracker | None,
    params: Params | None,
    callback: Callable[[Run], None],
) -> Run:
    try:
        return experiment.run(
            path,
            devices=devices,
            progress=False,
            checkpoint_seconds=checkpoint_seconds,
            tracker=tracker,
            params=params,
            callback=callback,
        )
    except Diverged as fault:
        return fault.run


def _epoch(run: Run) -> str:
    return f"epoch {len(run.metrics)} of {run.experiment.epochs}"


def _result(run: Run) -> str:
    if run.diverged:
        return "diverged"
    metric = main_metric([run])
    return f"{metric.replace('_', ' ').replace('heldout', 'held-out')} {run.metrics[-1][metric]:.4g}"

"""`sweep`: trains many runs of an experiment, one for each combination of the values of some fields."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from seqjax.array_files import saved_file
from seqjax.errors import Error, quoted
from seqjax.files import PART, path_of
from seqjax.gradients.contract.problem import Params
from seqjax.plugin.config import to_config
from seqjax.runs.environment import MACHINE
from seqjax.runs.experiment import config_bytes, differences
from seqjax.runs.files import folder
from seqjax.runs.files.folder import INDEX
from seqjax.runs.plugin_files import check_loaded
from seqjax.runs.refusals import goes_on, refuse_changed, refuse_environment, refuse_kept
from seqjax.runs.run import Experiment, Run, check_options, job_of
from seqjax.runs.saved import Saved, decode_config, read_saved
from seqjax.runs.settings import CHECKPOINT_SECONDS
from seqjax.runs.tracking.tracker import Tracker
from seqjax.sweeps.index import IndexEntry, folder_name, read_index, write_index
from seqjax.sweeps.launching.jobs import JobOptions, check_jobs, job_configs, launch
from seqjax.sweeps.launching.launcher import Launcher
from seqjax.sweeps.launching.state import ENDED, JOBS, states
from seqjax.sweeps.planning import Planned, combine, in_sweep
from seqjax.sweeps.runs import Runs, check_alike, main_metric
from seqjax.sweeps.side_by_side import epoch_words, run_side_by_side
from seqjax.terminal.counted import CountedDisplay
from seqjax.terminal.live import shows_progress
from seqjax.training.join import check_alone
from seqjax.training.loop import Diverged


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
    >>> from seqjax.models import NGram
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
    options = JobOptions(devices, checkpoint_seconds, tracker)
    runs = run_all(kept, axes, out, options, shows_progress(progress), launcher, params)
    if launcher is not None and out is not None:
        check_jobs(Path(out), kept)
    made = {name: runs[names[name]] for name in planned if names[name] in runs}
    return Runs(made, {name: planned[name].variant for name in made})


def run_all(
    planned: Mapping[str, Planned],
    varied: Iterable[str],
    out: str | Path | None,
    options: JobOptions,
    progress: bool,
    launcher: Launcher | None = None,
    params: Params | None = None,
) -> Runs:
    """Makes runs that differ in some fields, each in a folder of its own.

    Args:
        planned: the planned runs by their names in the sweep.
        varied: the fields in which they differ.
        out: folder of the sweep; None: in memory.
        options: the options of each run.
        progress: whether to show the progress, as in `sweep`.
        launcher: makes the runs elsewhere; None: in this process.
        params: the initial parameters of all runs, if they are made in this process; None: each run draws its own.

    Raises:
        Error: two runs are the same experiment; the folder holds other files, or runs that differ in other fields.
    """
    check_alone("a sweep", jax.process_count())
    check_options(out, options.checkpoint_seconds, tracker=options.tracker)
    counts = Counter(plan.experiment for plan in planned.values())
    if repeated := [name for name, plan in planned.items() if counts[plan.experiment] > 1]:
        raise Error(f"sweep: these are the same experiment: {quoted(repeated)}")
    if launcher is not None and not isinstance(launcher, Launcher):
        raise Error(f"launcher = {launcher!r:.60} is no launcher; pass one, such as create('launcher', name)")
    if launcher is not None and out is None:
        raise Error("sweep: a launcher makes runs in other processes, which need folders; give it out")
    if out is not None:
        _check(Path(out), planned, varied, options.devices, params)
    if launcher is not None and out is not None:
        return _run_elsewhere(planned, Path(out), options, progress, launcher)
    return _run_here(planned, None if out is None else Path(out), options, progress, params)


def _run_elsewhere(
    planned: Mapping[str, Planned], out: Path, options: JobOptions, progress: bool, launcher: Launcher
) -> Runs:
    """The runs that have ended, after a launcher has started those that were missing."""
    experiments = {name: plan.experiment for name, plan in planned.items()}
    configs = job_configs(experiments)
    # The lock comes first, so that a sweep that is refused adds no runs to the index.
    with folder.lock(folder.inner_folder(out, JOBS)):
        folders = _claim(out, planned)
        launch(out, experiments, configs, launcher, options, progress)
    names = {state.name for state in states(out) if state.state in ENDED}
    ended = {name: Run.open(path) for name, path in folders.items() if name in names}
    return Runs(ended, {name: planned[name].variant for name in ended})


def _run_here(
    planned: Mapping[str, Planned], out: Path | None, options: JobOptions, progress: bool, params: Params | None
) -> Runs:
    """The runs, made in this process one after the other, or side by side where that is faster."""
    paths: Mapping[str, Path | None] = dict.fromkeys(planned) if out is None else _claim(out, planned)
    runs: dict[str, Run] = {}
    on_one_device = jax.default_backend() != "cpu" and len(jax.devices()) == 1  # several share the rows of one run
    with CountedDisplay(len(planned), progress, "preparing", alike=True) as display:
        callback = lambda run: display.update(epoch_words(run))
        if on_one_device and params is None:
            runs |= run_side_by_side(planned, paths, options, display.show_text)
        for name, plan in planned.items():
            display.begin(name or "all")
            if name not in runs:
                try:
                    runs[name] = plan.experiment.run(
                        paths[name], **options._asdict(), progress=False, params=params, callback=callback
                    )
                except Diverged as fault:
                    runs[name] = fault.run
            display.end(_result(runs[name]))
    return Runs({name: runs[name] for name in planned}, {name: plan.variant for name, plan in planned.items()})


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
    # One run of each variant stands for all.
    first = {index[name].variant: path for name, path in reversed(begun.items())}
    kept = {variant: read_saved(path) for variant, path in first.items()}
    _check_variants(out, planned, varied, kept, {index[name].variant for name in begun if name not in planned})
    for variant, plan in {plan.variant: plan for name, plan in planned.items() if name not in begun}.items():
        job = job_of(plan.experiment, devices, params)
        config_bytes(job.experiment)  # for its errors
        job.train()  # for its errors: nothing is trained before the first chunk is taken
        if variant in kept:
            refuse_changed(kept[variant], job)
            # The run that is there has another seed, and so other initial parameters of `init_anew`.
            refuse_environment(kept[variant], job, (*MACHINE, "initial_params_sha256"))
    # Otherwise the sweep could end half way, with runs of both numbers of epochs.
    for name, plan in planned.items():
        if name not in begun:
            continue
        if saved_file.read(begun[name] / folder.CONFIG, decode_config)["epochs"] < plan.experiment.epochs:
            refuse_kept(read_saved(begun[name]), plan.experiment)


def _check_variants(
    out: Path, planned: Mapping[str, Planned], varied: Iterable[str], kept: Mapping[str, Saved], partly: Container[str]
) -> None:
    """Raises an `Error` if a variant differs from its runs in the folder, or in fields that are not varied.

    Args:
        out: the folder of the sweep.
        planned: the planned runs.
        varied: the fields in which they differ.
        kept: what the folder has of a run of each variant.
        partly: the variants of which the folder has runs that are not asked for again.
    """
    asked = {plan.variant: plan.experiment for plan in planned.values()}
    for saved in kept.values():
        check_loaded(saved.path, saved.environment.plugins)
    for variant, experiment in asked.items():
        table = to_config(experiment)
        if variant in kept:
            # A variant whose runs are all asked for again, with more epochs, will have them.
            goes = variant not in partly and goes_on(kept[variant], experiment)
            check_alike(variant or "all", [kept[variant].config, table], ["epochs"] if goes else [])
        elif kept and (problems := differences(next(iter(kept.values())).config, table, [*varied, "seed"])):
            what = f"{out} holds runs that differ from {variant or 'these'} in fields that are not varied"
            raise Error(f"{what}; choose another folder:", problems=problems)


def _result(run: Run) -> str:
    if run.diverged:
        return "diverged"
    metric = main_metric([run])
    return f"{metric.replace('_', ' ').replace('heldout', 'held-out')} {run.metrics[-1][metric]:.4g}"

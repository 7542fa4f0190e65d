"""Brings the processes that train one run to the same state. With a single process, nothing is to be done."""

import socket

import jax

from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.plugin import config
from seqjax.runs import checkpoint
from seqjax.runs.arrays import as_tree, by_name, load_arrays, save_arrays
from seqjax.runs.begin import environment_of
from seqjax.runs.environment import changes
from seqjax.runs.experiment import Experiment
from seqjax.runs.run import Run
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.loop import Progress, init_train_state
from seqjax.training.processes import bytes_from_first, exchange, from_first, is_first


def check_equal(run: Run, fit: Fit) -> None:
    """Checks that all processes have the same experiment, see the same data, and run in the same environment.

    An experiment that no config can hold is compared by its data alone. GPUs may be of different kinds.

    Raises:
        Error: in all processes, and before anything is written. Exit code 4 if the experiments are equal.
    """
    if jax.process_count() == 1:
        return
    record = environment_of(run, fit)
    found = exchange({"host": socket.gethostname(), "config": _config(run.experiment), "environment": record})
    names = [f"process {n} on {each['host']}" for n, each in enumerate(found)]
    first, problems, exit_code = found[0], [], 4
    for name, each in zip(names, found, strict=True):
        for field in {**first["config"], **each["config"]}:
            here, there = each["config"].get(field), first["config"].get(field)
            if here != there:
                problems.append(f"{field}: {here} in {name}, {there} in {names[0]}")
                exit_code = 2
        kept, now = first["environment"], each["environment"]
        for field, sha256 in now["data_sha256"].items():
            if sha256 != kept["data_sha256"].get(field):
                problems.append(f"{field}: sha256 {sha256} in {name}, {kept['data_sha256'].get(field)} in {names[0]}")
        problems += [f"{name}: {change}" for change in changes(kept, now, ["device"])]
    if problems:
        raise Error(
            "the processes of this run differ; nothing was written\n"
            "Start the same command in all of them, with the same files, versions and variables:",
            problems=problems,
            exit_code=exit_code,
        )


def share_run(run: Run) -> None:
    """Gives the run of all processes what the first one has read from the folder: rows, ending and parameters."""
    if jax.process_count() == 1:
        return
    run.metrics, run.stopped_at, run.diverged = from_first([run.metrics, run.stopped_at, run.diverged])
    like = run.experiment.fit().params_like(run.problem)
    run.params = _share_params(run.params, like)
    # The file of the best epoch may be newer than the checkpoint of a run that was killed.
    if run.finished and run.experiment.keep == "best" and run.best_epoch is not None:
        run.best_in_memory = _share_params(run.best_params if is_first() else None, like)


def share_state(
    run: Run, fit: Fit, state: TrainState | None, progress: Progress | None
) -> tuple[TrainState | None, Progress | None]:
    """The state and the progress that the first process has read from the folder, and the same in all others."""
    if jax.process_count() == 1 or not from_first(state is not None):
        return state, progress
    data = checkpoint.encode(state, progress, {}) if state is not None and progress is not None else b""
    found = checkpoint.decode(bytes_from_first(data))
    like = init_train_state(run.problem, run.experiment.setup(), 1, fit.params)
    return checkpoint.restore(found, like), found.progress


def _config(experiment: Experiment) -> config.Config:
    """The config of an experiment; empty if it holds objects of Python."""
    try:
        return config.from_toml(experiment.to_toml())
    except Error:
        return {}


def _share_params(params: Params, like: Params | None) -> Params:
    """The parameters of the first process."""
    if not from_first(params is not None):
        return None
    data = save_arrays(by_name(params), {}) if is_first() else b""
    return as_tree(load_arrays(bytes_from_first(data))[0], like)

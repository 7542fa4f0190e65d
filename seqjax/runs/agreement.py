"""Brings the processes that train one run to the same state. With a single process, nothing is to be done."""

import socket
from collections.abc import Mapping

import jax

from seqjax.errors import Error
from seqjax.plugin import config
from seqjax.runs.begin import environment_of
from seqjax.runs.environment import changes
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.state import RunState
from seqjax.training.fit import Fit
from seqjax.training.processes import bytes_from_first, exchange, from_first, is_first


def share_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that the first process has read, in all processes, by name."""
    if jax.process_count() == 1:
        return dict(files)
    sizes = from_first({name: len(data) for name, data in files.items()})
    whole, shared, at = bytes_from_first(b"".join(files.values()) if is_first() else b""), {}, 0
    for name, size in sizes.items():
        shared[name] = whole[at : at + size]
        at += size
    return shared


def check_equal(run: RunState, fit: Fit) -> None:
    """Checks that all processes have the same experiment, see the same data, and run in the same environment.

    An experiment that no config can hold is compared by its data alone. GPUs may be of different kinds.

    Raises:
        Error: in all processes, and before anything is written. Exit code 4 if the experiments are equal.
    """
    if jax.process_count() == 1:
        return
    record = environment_of(run, fit)
    of_each = exchange({"host": socket.gethostname(), "config": _config(run.experiment), "environment": record})
    names = [f"process {n} on {each['host']}" for n, each in enumerate(of_each)]
    first, problems, exit_code = of_each[0], [], 4
    for name, each in zip(names, of_each, strict=True):
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


def _config(experiment: ExperimentFields) -> config.Config:
    """The config of an experiment; empty if it holds objects of Python."""
    try:
        return config.from_toml(experiment.to_toml())
    except Error:
        return {}

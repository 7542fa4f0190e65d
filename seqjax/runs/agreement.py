"""Brings the processes that train one run to the same state. With a single process, nothing is to be done."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import jax

from seqjax.errors import Error
from seqjax.plugin.config import Config, to_config
from seqjax.runs.environment import Environment
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.files.store import read_run
from seqjax.runs.job import Job
from seqjax.runs.saved import Saved, decode_saved
from seqjax.training.processes import bytes_from_first, exchange, failing_together, from_first, is_first


def read_together(path: Path | None) -> Saved | None:
    """What the folder of a run holds, in all processes; None: there is no run.

    Args:
        path: the folder, in the first process, which alone reads it.

    Raises:
        Error: in all processes: the folder holds other files, or a file is damaged (exit code 4).
    """
    with failing_together():
        files = read_run(path)
    if jax.process_count() > 1:
        files = _shared(files)
    with failing_together():
        return decode_saved(path or Path(), files) if files else None


def _shared(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of the first process, in all processes, by name."""
    sizes = from_first({name: len(data) for name, data in files.items()})
    whole, shared, at = bytes_from_first(b"".join(files.values()) if is_first() else b""), {}, 0
    for name, size in sizes.items():
        shared[name] = whole[at : at + size]
        at += size
    return shared


def check_equal(job: Job) -> None:
    """Checks that all processes have the same experiment, see the same data, and run in the same environment.

    GPUs may be of different kinds.

    Raises:
        Error: in all processes, and before anything is written. Exit code 4 if the experiments are equal.
    """
    if jax.process_count() == 1:
        return
    own = json.loads(job.environment.to_json())
    of_each = exchange({"host": socket.gethostname(), "config": _config(job.experiment), "environment": own})
    names = [f"process {n} on {each['host']}" for n, each in enumerate(of_each)]
    first, problems, exit_code = of_each[0], [], 4
    for name, each in zip(names, of_each, strict=True):
        for field in {**first["config"], **each["config"]}:
            here, there = each["config"].get(field), first["config"].get(field)
            if here != there:
                problems.append(f"{field}: {here} in {name}, {there} in {names[0]}")
                exit_code = 2
        there, here = (Environment.from_json(json.dumps(one["environment"]).encode()) for one in (first, each))
        for field, sha256 in here.data_sha256.items():
            if sha256 != there.data_sha256.get(field):
                problems.append(f"{field}: sha256 {sha256} in {name}, {there.data_sha256.get(field)} in {names[0]}")
        problems += [f"{name}: {change}" for change in there.differences(here, ["device"])]
    if problems:
        raise Error(
            "the processes of this run differ; nothing was written\n"
            "Start the same command in all of them, with the same files, versions and variables:",
            problems=problems,
            exit_code=exit_code,
        )


def _config(experiment: ExperimentFields) -> Config:
    """The config of an experiment; empty if a plugin is not registered."""
    try:
        return to_config(experiment)
    except Error:
        return {}

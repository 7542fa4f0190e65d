"""Brings the processes that train one run to the same state. With a single process, nothing is to be done."""

import contextlib
import dataclasses
import socket
from pathlib import Path

import jax

from seqjax.errors import Error
from seqjax.plugin.config import Config, to_config
from seqjax.runs.environment import Environment
from seqjax.runs.files.store import read_run
from seqjax.runs.job import Job
from seqjax.runs.saved import Saved, decode_saved
from seqjax.training.processes import bytes_from_first, exchange, failing_together, from_first


def read_together(path: Path | None) -> Saved | None:
    """What the folder of a run holds, in all processes; None: there is no run.

    Args:
        path: the folder, in the first process, which alone reads it.

    Raises:
        Error: in all processes: the folder holds other files, or a file is damaged (exit code 4).
    """
    with failing_together():
        files = read_run(path)
    files = {name: bytes_from_first(files.get(name, b"")) for name in from_first(list(files))}
    where = from_first(str(path))  # which errors name in all processes
    with failing_together():
        return decode_saved(Path(where), files) if files else None


def check_equal(job: Job) -> None:
    """Checks that all processes have the same experiment, see the same data, and run in the same environment.

    GPUs may be of different kinds.

    Raises:
        Error: in all processes, and before anything is written. Exit code 4 if the experiments are equal.
    """
    if jax.process_count() == 1:
        return
    with failing_together():
        environment = job.environment
    config: Config = {}
    with contextlib.suppress(Error):  # a plugin is not registered
        config = to_config(job.experiment)
    own = {
        "name": f"process {jax.process_index()} on {socket.gethostname()}",
        "config": config,
        "data": {f"{field}: sha256": sha256 for field, sha256 in environment.data_sha256.items()},
        "environment": dataclasses.asdict(environment),
    }
    first, *others = exchange(own)
    problems = []
    for each in others:
        there, here = (one["config"] | one["data"] for one in (first, each))
        problems += [
            f"{field}: {here.get(field)} in {each['name']}, {there.get(field)} in {first['name']}"
            for field in {**there, **here}
            if here.get(field) != there.get(field)
        ]
        then, now = (Environment(**one["environment"]) for one in (first, each))
        problems += [f"{each['name']}: {change}" for change in then.differences(now, ["device"])]
    if problems:
        raise Error(
            "the processes of this run differ; nothing was written\n"
            "Start the same command in all of them, with the same files, versions and variables:",
            problems=problems,
            exit_code=4 if all(each["config"] == first["config"] for each in others) else 2,
        )

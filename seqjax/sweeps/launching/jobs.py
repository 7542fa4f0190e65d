"""Makes the runs of a sweep in other processes, through a launcher."""

import json
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seqjax.data.dataset import Data
from seqjax.errors import Error
from seqjax.files import disk_errors, write
from seqjax.plugin import config
from seqjax.plugin.author import Mistake
from seqjax.runs.experiment import ExperimentFields, config_bytes
from seqjax.runs.files import folder
from seqjax.runs.plugin_files import local_files
from seqjax.runs.tracking.tracker import Tracker
from seqjax.signals import leave, noticed
from seqjax.sweeps.index import read_index
from seqjax.sweeps.launching.board import JobBoard
from seqjax.sweeps.launching.launcher import Job, Launcher, start
from seqjax.sweeps.launching.state import ENDED, JOBS, LAUNCHED, START, JobState, read_launched, states
from seqjax.terminal.shell import argument, program

ON_ITS_WAY = ("queued", "running")
"""The states of a run that has a job."""


class JobOptions(NamedTuple):
    """The options of `seqjax run` for all jobs; `Experiment.run` has their documentation."""

    devices: int | None
    checkpoint_seconds: float
    tracker: Tracker | None


def job_configs(experiments: Mapping[str, ExperimentFields]) -> dict[str, bytes]:
    """The config of each job, by name of its run.

    Raises:
        Error: an experiment has data in memory, which another process does not see, or another object of Python.
    """
    for name, experiment in experiments.items():
        for field in ("dataset", "heldout"):
            if isinstance(getattr(experiment, field), Data):
                raise Error(
                    f"{name or 'all'}: its {field} is in memory, and the process of a job reads it from a file\n"
                    "Write it to a file, and use one of the datasets text-file, csv, npy and npz"
                )
        if experiment.objects:
            raise Error(
                f"{name or 'all'}: the process of a job cannot get what was given in Python as: "
                f"{', '.join(experiment.objects)}\n"
                f"Leave out the launcher, or write a plugin: see {program()} new --help"
            )
    return {name: config_bytes(experiment) for name, experiment in experiments.items()}


def launch(
    out: Path,
    experiments: Mapping[str, ExperimentFields],
    configs: Mapping[str, bytes],
    launcher: Launcher,
    options: JobOptions,
    progress: bool,
) -> None:
    """Starts a job for each run that is neither finished nor on its way. Waits for them if the launcher does.

    The caller has locked the folder `JOBS`, so that no other process launches jobs of this sweep.

    Args:
        out: the folder of the sweep, whose index has the runs.
        experiments: the experiments by name of their run.
        configs: what `job_configs` returns for them.
        launcher: starts the jobs.
        options: the options of all jobs.
        progress: whether to print the progress of jobs that are waited for.

    Raises:
        Error: the launcher cannot start jobs.
    """
    folder.remove_parts(out / JOBS)
    known = {state.name: state for state in states(out, is_launching=False)}
    missing = [name for name, e in experiments.items() if _is_missing(known[name], e)]
    index = read_index(out)
    jobs = []
    for name in missing:
        base = out / JOBS / index[name].folder
        toml, log, code = (base.with_name(f"{base.name}.{ending}") for ending in ("toml", "log", "code"))
        write(toml, configs[name])
        code.unlink(missing_ok=True)
        with disk_errors(log), log.open("ab") as file:
            separator = "\n" if file.tell() else ""  # a kill may have cut the last line
            file.write(f"{separator}{START}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        jobs.append(Job(name, _command(experiments[name], toml, out / index[name].folder, options), log, code))
    if jobs:
        _launch(out, jobs, launcher, progress)


def _launch(out: Path, jobs: Sequence[Job], launcher: Launcher, progress: bool) -> None:
    """Starts jobs, and keeps their ids."""
    table = config.to_table(launcher)
    launched = {name: job for name, job in read_launched(out).items() if job["id"]}  # the others were waited for

    def write_launched(ids):
        for job in jobs:
            launched[job.name] = {"launcher": table, "id": ids.get(job.name, "")}
        write(out / JOBS / LAUNCHED, json.dumps(launched, indent=2) + "\n")

    write_launched({})  # first, since a launcher may wait for its jobs
    with noticed() as interrupted:
        with JobBoard(out, [job.name for job in jobs], progress) as board:

            def show_progress():
                board.update()
                if interrupted():
                    raise KeyboardInterrupt

            try:
                ids = start(launcher, jobs, show_progress)
            except KeyboardInterrupt:
                text = f"interrupted; the runs are saved in {out}\nThe same command resumes them"
                leave(text, interrupted() or 128 + signal.SIGINT)
            except Mistake:
                raise
            except Error as fault:
                advice = "No run is lost: mend this, or change the launcher's fields, and type the same command again"
                raise Error(f"{fault}\n{advice}", exit_code=fault.exit_code) from fault
        write_launched(ids)
        if exit_code := interrupted():
            text = f"interrupted; the jobs are started, and {program()} status {argument(out)} shows how far they are"
            leave(text, exit_code)


def check_jobs(out: Path, names: Collection[str]) -> None:
    """Raises an `Error` if jobs have failed, with exit code 4 if runs are damaged.

    Args:
        out: the folder of the sweep.
        names: the names of the runs that are looked at.
    """
    runs = [state for state in states(out) if state.name in names]
    check_damage(out, runs)
    failed = [state for state in runs if state.state == "failed"]
    if failed:
        raise Error(
            f"{len(failed)} of {len(names)} runs failed; their logs are in {out / JOBS}\n"
            "Mend what is wrong, and type the same command again: it starts these runs and no others",
            problems=[f"{state.name or 'all'}: {state.note}" for state in failed],
        )


def check_damage(out: Path, runs: Sequence[JobState]) -> None:
    """Raises an `Error` with exit code 4 if some of these runs of a sweep are damaged."""
    damaged = [state for state in runs if state.state == "damaged"]
    if damaged:
        raise Error(
            f"{len(damaged)} of {len(runs)} runs are damaged, and are left as they are\n"
            f"To see all that has changed, type: {program()} verify {argument(out)}",
            problems=[f"{state.name or 'all'}: {state.note}" for state in damaged],
            exit_code=4,
        )


def _is_missing(state: JobState, experiment: ExperimentFields) -> bool:
    """Whether a job has to make or resume a run."""
    is_done = state.state in ENDED and state.epochs == experiment.epochs
    return not is_done and state.state not in (*ON_ITS_WAY, "damaged")


def _command(experiment: ExperimentFields, toml: Path, run: Path, options: JobOptions) -> tuple[str, ...]:
    """The command line that makes or resumes a run."""
    command = [sys.executable, "-m", "seqjax", "run", "--config", str(toml), "--out", str(run)]
    command += ["--checkpoint-seconds", str(options.checkpoint_seconds)]
    if options.devices is not None:
        command += ["--devices", str(options.devices)]
    if options.tracker is not None:
        command += ["--tracker", config.describe(options.tracker, ":")]
    for file in local_files(experiment, options.tracker):
        command += ["--load", file]
    return tuple(command)

"""Makes the runs of a sweep in other processes, through a launcher."""

import json
import signal
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from seqjax.data.dataset import Data
from seqjax.errors import Error
from seqjax.files import write
from seqjax.plugin import config
from seqjax.runs import folder
from seqjax.runs.environment import local_files
from seqjax.runs.experiment import Experiment, config_bytes
from seqjax.runs.index import read_index
from seqjax.runs.interrupt import leave, noticed
from seqjax.runs.launching.board import Board
from seqjax.runs.launching.launcher import Job, Launcher, start
from seqjax.runs.launching.state import ENDED, JOBS, LAUNCHED, read_launched, states
from seqjax.runs.tracking.tracker import Tracker

ON_ITS_WAY = ("queued", "running")
"""The states of a run that has a job."""


class JobOptions(NamedTuple):
    """The options of `seqjax run` for all jobs; `Experiment.run` has their documentation."""

    devices: int | None
    checkpoint_seconds: float
    tracker: Tracker | None


def launch(
    out: Path, experiments: Mapping[str, Experiment], launcher: Launcher, options: JobOptions, progress: bool
) -> None:
    """Starts a job for each run that is neither finished nor on its way. Waits for them if the launcher does.

    Args:
        out: the folder of the sweep, whose index has the runs.
        experiments: the experiments by name of their run.
        launcher: starts the jobs.
        options: the options of all jobs.
        progress: whether to print the progress of jobs that are waited for.

    Raises:
        Error: an experiment cannot be written into a config; the launcher cannot start jobs; another process is
            launching jobs of this sweep (exit code 5).
    """
    texts = {name: _config(name, experiment) for name, experiment in experiments.items()}
    with folder.lock(out / JOBS):
        folder.remove_parts(out / JOBS)
        known = {state.name: state for state in states(out, is_launching=False)}
        missing = [name for name, e in experiments.items() if _is_missing(known[name], e)]
        index = read_index(out)
        jobs = []
        for name in missing:
            base = out / JOBS / index[name].folder
            files = {ending: base.with_name(f"{base.name}.{ending}") for ending in ("toml", "log", "code")}
            write(files["toml"], texts[name])
            files["code"].unlink(missing_ok=True)
            command = _command(experiments[name], files["toml"], out / index[name].folder, options)
            jobs.append(Job(name, command, files["log"], files["code"]))
        if jobs:
            _launch(out, jobs, launcher, progress)


def _launch(out, jobs, launcher, progress):
    """Starts jobs, and keeps their ids."""
    table, launched = config.to_table(launcher), read_launched(out)

    def write_launched(ids):
        for job in jobs:
            launched[job.name] = {"launcher": table, "id": ids.get(job.name, "")}
        write(out / JOBS / LAUNCHED, json.dumps(launched, indent=2) + "\n")

    write_launched({})  # first, since a launcher may wait for its jobs
    with noticed() as interrupted, Board(out, [job.name for job in jobs], progress) as board:

        def show_progress():
            board.update()
            if interrupted():
                raise KeyboardInterrupt

        try:
            ids = start(launcher, jobs, show_progress)
        except KeyboardInterrupt:
            text = f"interrupted; the runs are saved in {out}\nThe same command resumes them"
            leave(text, interrupted() or 128 + signal.SIGINT)
    write_launched(ids)
    if exit_code := interrupted():
        leave(f"interrupted; the jobs are started, and seqjax status {out} shows how far they are", exit_code)


def check_jobs(out: Path, names: Collection[str]) -> None:
    """Raises an `Error` if jobs have failed.

    Args:
        out: the folder of the sweep.
        names: the names of the runs that are looked at.
    """
    failed = [state for state in states(out) if state.state == "failed" and state.name in names]
    if failed:
        raise Error(
            f"{len(failed)} of {len(names)} runs failed; their logs are in {out / JOBS}\n"
            "Mend what is wrong, and type the same command again: it starts these runs and no others",
            problems=[f"{state.name or 'all'}: {state.note}" for state in failed],
        )


def _is_missing(state, experiment):
    """Whether a job has to make or resume a run."""
    is_done = state.state in ENDED and state.epochs == experiment.epochs
    return not is_done and state.state not in ON_ITS_WAY


def _command(experiment, toml, run, options):
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


def _config(name, experiment):
    """The config of a job; an `Error` if it has data in memory, which another process does not see."""
    for field in ("dataset", "heldout"):
        if isinstance(getattr(experiment, field), Data):
            raise Error(
                f"{name or 'all'}: its {field} is in memory, and the process of a job reads it from a file\n"
                "Write it to a file, and use one of the datasets text-file, csv, npy and npz"
            )
    return config_bytes(experiment)

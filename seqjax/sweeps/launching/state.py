"""The state of each run of a sweep: queued, running, finished, failed."""

import json
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.array_files import saved_file
from seqjax.errors import Error
from seqjax.parse import from_json
from seqjax.plugin import config
from seqjax.report.table import Table
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import check_files, read_manifest
from seqjax.runs.files.rows import last_row
from seqjax.runs.saved import decode_config
from seqjax.signals import TO_SAVE
from seqjax.sweeps.index import read_index
from seqjax.sweeps.launching.launcher import still_alive

JOBS = "_jobs"
"""The folder in that of a sweep with the config, the log and the exit code of each job. No run has such a name."""
LAUNCHED = "launched.json"
"""The file in `JOBS` that says which jobs were started: name -> launcher and id. The id is empty while they are being
launched, and of jobs that are waited for."""

ENDED = ("finished", "diverged")
"""The states of a run that is not made again."""
SAVED = tuple(128 + number for number in TO_SAVE)
"""The exit codes of a command that a signal has interrupted, after it has saved its run."""

START = "=== seqjax sweep starts a job of this run"
"""How the line in the log of a job begins that separates what an earlier job of the run has printed."""
LONGEST = 10_000
"""The number of bytes at the end of a log in which its last words are looked for."""


class JobState(NamedTuple):
    """How far a run of a sweep is.

    Args:
        name: its name in the sweep.
        state: "not started", "queued", "running", "interrupted" (it was begun, and no process trains it), "finished",
            "diverged", "failed" (the exit code of its job says so, or it has ended before it began), or "damaged" (a
            file has changed or is missing).
        epoch: the number of epochs that are trained.
        epochs: the number of epochs that were asked for; None: not known yet.
        seconds_left: the time that a running run needs for the other epochs; None: not known.
        note: why it has failed, diverged or ended early, what is damaged, or where it was interrupted: the last words
            of its log.
    """

    name: str
    state: str
    epoch: int = 0
    epochs: int | None = None
    seconds_left: float | None = None
    note: str = ""


def states(out: Path, is_launching: bool | None = None) -> list[JobState]:
    """The states of all runs of a sweep.

    Args:
        out: the folder of the sweep.
        is_launching: whether a process is launching jobs, so that those that have not begun are queued; None: whether
            one has locked the folder of the jobs.

    Raises:
        Error: the folder holds no sweep; its index is damaged (exit code 4).
    """
    index, launched = read_index(out), read_launched(out)
    if is_launching is None:
        is_launching = folder.is_locked(out / JOBS)

    def state(name, waiting=None):
        try:
            return state_of(name, out / index[name].folder, out / JOBS / index[name].folder, waiting)
        except Error as fault:  # the other runs are intact
            return JobState(name, "damaged", note=fault.message.partition("\n")[0])

    known = {name: state(name) for name in index}
    # A launcher is asked only for jobs whose end is not in the folder.
    asked = {
        name: job for name, job in launched.items() if name in known and job["id"] and known[name].state not in ENDED
    }
    alive, launching = _alive(asked), {name for name, job in launched.items() if not job["id"]}
    for name in known:
        if name in alive:
            known[name] = state(name, alive[name])
        elif is_launching and name in launching and _exit_code(out / JOBS / index[name].folder) is None:
            known[name] = state(name, "queued")
        elif name in asked and known[name].state == "not started":
            note = f"its job, {asked[name]['id']}, ended before it began: it may have been cancelled, or did not start"
            known[name] = known[name]._replace(state="failed", note=known[name].note or note)
    return list(known.values())


def state_of(name: str, run: Path, job: Path, waiting: str | None = None) -> JobState:
    """The state of one run.

    Args:
        name: its name.
        run: its folder.
        job: its config, log and exit code, without their endings .toml, .log and .code.
        waiting: what its launcher says of its job, "queued" or "running"; None: the job has ended, or there is none.
    """
    manifest = read_manifest(run) if folder.is_run(run) else None
    if manifest and manifest.ended:
        check_files(run, [folder.METRICS])
    row, kept, asked = last_row(run), _epochs(run / folder.CONFIG), _epochs(job.with_name(f"{job.name}.toml"))
    epochs = max(filter(None, (kept, asked)), default=None)
    state = JobState(name, "", int(row.get("epoch", 0)), epochs)
    if manifest and manifest.ended == "diverged":
        return state._replace(state="diverged", note=manifest.note.partition("\n")[0])
    if manifest and manifest.ended and kept == epochs:  # otherwise a job has to train more epochs, which were asked for
        return state._replace(state="finished", note="" if state.epoch == epochs else "ended early")
    log = job.with_name(f"{job.name}.log")
    if folder.is_locked(run) or folder.is_file_locked(log):
        return state._replace(state="running", seconds_left=_seconds_left(row, epochs))
    if waiting:
        return state._replace(state=waiting)
    code, lines = _exit_code(job), _lines_of_job(log)
    if code is None or code in SAVED:  # without an exit code, the launcher has ended before the job
        saved = re.findall(r"^(?:seqjax: )?(interrupted at update [\d,]*\d)", "\n".join(lines), re.MULTILINE)
        note = saved[-1] if saved else _last_words(lines)
        return state._replace(state="interrupted" if code or kept else "not started", note=note)
    ended = f"ended by signal {code - 128}" if code > 128 else ""
    last = "" if code == 128 + signal.SIGKILL else _last_words(lines)  # the job could not say anything about SIGKILL
    return state._replace(state="failed", note="; ".join(filter(None, [ended, last])))


def table(runs: Sequence[JobState]) -> Table:
    """States as a table."""
    rows = []
    for each in runs:
        left = "" if each.seconds_left is None else f"{each.seconds_left // 60:.0f}:{each.seconds_left % 60:02.0f}"
        rows.append([each.name or "all", each.state, f"{each.epoch} of {each.epochs or '?'}", left, each.note[:200]])
    return Table(["run", "state", "epoch", "left", "note"], rows)


def read_launched(out: Path) -> dict[str, dict[str, Any]]:
    """Name of a run -> the table of the launcher that started its job, and the id of the job."""
    file = out / JOBS / LAUNCHED

    def parse(data):
        return {
            name: {"launcher": dict(job["launcher"]), "id": str(job["id"])} for name, job in from_json(data).items()
        }

    return saved_file.read(file, parse) if file.is_file() else {}


def _alive(launched: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name of a run -> "queued" or "running", for the jobs that have not ended."""
    alive: dict[str, str] = {}
    by_launcher: dict[str, dict[str, str]] = {}
    for name, job in launched.items():
        by_launcher.setdefault(json.dumps(job["launcher"], sort_keys=True), {})[job["id"]] = name
    for text, names in by_launcher.items():
        launcher = config.from_table("launcher", from_json(text))
        alive |= {names[id_]: state for id_, state in still_alive(launcher, list(names)).items() if id_ in names}
    return alive


def _epochs(file: Path) -> int | None:
    """The number of epochs that a config asks for; None if there is no such file."""
    return saved_file.read(file, decode_config)["epochs"] if file.is_file() else None


def _seconds_left(row: Mapping[str, Any], epochs: int | None) -> float | None:
    """The time for the other epochs, if they take as long as those before, without compiling and evaluating."""
    if not row or epochs is None:
        return None
    return float(row["seconds"]) / int(row["epoch"]) * (epochs - int(row["epoch"]))


def _exit_code(job: Path) -> int | None:
    """The exit code of the command of a job; None if it has none."""
    file = job.with_name(f"{job.name}.code")
    # It is empty while it is being written.
    return saved_file.read(file, lambda data: int(data) if data.strip() else None) if file.is_file() else None


def _lines_of_job(file: Path) -> list[str]:
    """The lines at the end of a log that the last job has printed, without empty ones."""
    if not file.is_file():
        return []
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - LONGEST))
        lines = [line.strip() for line in log.read().decode("utf-8", "replace").split("\n") if line.strip()]
    starts = [n for n, line in enumerate(lines) if line.startswith(START)]
    return lines[starts[-1] + 1 :] if starts else lines


def _last_words(lines: Sequence[str]) -> str:
    """The last one of the lines that a job has printed; if it belongs to an error of seqjax, the whole error."""
    errors = [n for n, line in enumerate(lines) if line.startswith("seqjax: ")]
    return "; ".join(lines[errors[-1] if errors else -1 :])

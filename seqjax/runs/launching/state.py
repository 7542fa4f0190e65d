"""The state of each run of a sweep: queued, running, finished, failed."""

import json
import signal
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.plugin import config
from seqjax.report.table import Table
from seqjax.runs import folder
from seqjax.runs.index import read_index
from seqjax.runs.launching.launcher import still_alive

JOBS = "_jobs"
"""The folder in that of a sweep with the config, the log and the exit code of each job. No run has such a name."""
LAUNCHED = "launched.json"
"""The file in `JOBS` that says which jobs were started: name -> launcher and id."""

ENDED = ("finished", "diverged")
"""The states of a run that is not made again."""
SAVED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGUSR1)
"""The exit codes of a command that a signal has interrupted, after it has saved its run."""


LONGEST = 10_000
"""The number of bytes at the end of a log in which its last words are looked for."""


class RunState(NamedTuple):
    """How far a run is.

    Args:
        name: its name in the sweep.
        state: "not started", "queued", "running", "interrupted" (it was begun, and no process trains it), "finished",
            "diverged" or "failed".
        epoch: the number of epochs that are trained.
        epochs: the number of epochs that were asked for; None: not known yet.
        seconds_left: the time that a running run needs for the other epochs; None: not known.
        note: why it has failed, diverged or ended early: the last words of its log.
    """

    name: str
    state: str
    epoch: int = 0
    epochs: int | None = None
    seconds_left: float | None = None
    note: str = ""


def states(out: Path, is_launching: bool | None = None) -> list[RunState]:
    """The states of all runs of a sweep.

    Args:
        out: the folder of the sweep.
        is_launching: whether a process is launching jobs, so that those that have not begun are queued; None: whether
            one has locked the folder of the jobs.

    Raises:
        Error: the folder holds no sweep; a file is damaged (exit code 4).
    """
    index, launched = read_index(out), read_launched(out)
    if is_launching is None:
        is_launching = folder.is_locked(out / JOBS)

    def state(name, waiting=None):
        return state_of(name, out / index[name].folder, out / JOBS / index[name].folder, waiting)

    found = {name: state(name) for name in index}
    # A launcher is asked only for jobs whose end is not in the folder.
    asked = {
        name: job for name, job in launched.items() if name in found and job["id"] and found[name].state not in ENDED
    }
    alive = _alive(asked)
    for name in found:
        if name in alive:
            found[name] = state(name, alive[name])
        elif name in launched and is_launching and found[name].state not in ENDED:
            found[name] = state(name, "queued")
        elif name in asked and found[name].state == "not started":
            note = "its job ended before it began: it may have been cancelled"
            found[name] = found[name]._replace(state="failed", note=note)
    return list(found.values())


def state_of(name: str, run: Path, job: Path, waiting: str | None = None) -> RunState:
    """The state of one run.

    Args:
        name: its name.
        run: its folder.
        job: its config, log and exit code, without their endings .toml, .log and .code.
        waiting: what its launcher says of its job, "queued" or "running"; None: the job has ended, or there is none.
    """
    row, kept, asked = _last_row(run), _epochs(run / folder.CONFIG), _epochs(job.with_name(f"{job.name}.toml"))
    epochs = max(filter(None, (kept, asked)), default=None)
    state = RunState(name, "", int(row.get("epoch", 0)), epochs)
    if (run / folder.PARAMS).is_file():
        if (run / folder.DIVERGED).is_file():
            reason = folder.read(run / folder.DIVERGED, lambda data: data.decode("utf-8").partition("\n")[0])
            return state._replace(state="diverged", note=reason)
        if kept == epochs:  # otherwise more epochs were asked for, which a job has to train
            return state._replace(state="finished", note="" if state.epoch == epochs else "ended early")
    if folder.is_locked(run):
        return state._replace(state="running", seconds_left=_seconds_left(row, epochs))
    if waiting:
        return state._replace(state=waiting)
    log, code = job.with_name(f"{job.name}.log"), _exit_code(job)
    if code in SAVED:
        return state._replace(state="interrupted", note=_last_words(log))
    if log.is_file():
        ended = f"ended by signal {code - 128}" if code is not None and code > 128 else ""
        return state._replace(state="failed", note="; ".join(filter(None, [ended, _last_words(log)])))
    return state._replace(state="interrupted" if kept else "not started")


def table(found: Sequence[RunState]) -> Table:
    """States as a table."""
    rows = []
    for each in found:
        left = "" if each.seconds_left is None else f"{each.seconds_left // 60:.0f}:{each.seconds_left % 60:02.0f}"
        rows.append([each.name or "all", each.state, f"{each.epoch} of {each.epochs or '?'}", left, each.note[:200]])
    return Table(["run", "state", "epoch", "left", "note"], rows)


def read_launched(out: Path) -> dict[str, dict[str, Any]]:
    """Name of a run -> the table of the launcher that started its job, and the id of the job."""
    file = out / JOBS / LAUNCHED

    def parse(data):
        return {
            name: {"launcher": dict(job["launcher"]), "id": str(job["id"])} for name, job in json.loads(data).items()
        }

    return folder.read(file, parse) if file.is_file() else {}


def _alive(launched: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name of a run -> "queued" or "running", for the jobs that have not ended."""
    found: dict[str, str] = {}
    by_launcher: dict[str, dict[str, str]] = {}
    for name, job in launched.items():
        by_launcher.setdefault(json.dumps(job["launcher"], sort_keys=True), {})[job["id"]] = name
    for text, names in by_launcher.items():
        launcher = config.from_table("launcher", json.loads(text))
        found |= {names[id_]: state for id_, state in still_alive(launcher, list(names)).items() if id_ in names}
    return found


def _epochs(config: Path) -> int | None:
    """The number of epochs that a config asks for; None if there is no such file."""
    if not config.is_file():
        return None
    return int(folder.read(config, lambda data: tomllib.loads(data.decode("utf-8"))["epochs"]))


def _last_row(run: Path) -> dict[str, Any]:
    """The last complete row of the metrics of a run, which may be in training."""
    if not (run / folder.METRICS).is_file():
        return {}
    lines = folder.read(run / folder.METRICS, lambda data: data.rpartition(b"\n")[0].splitlines())
    return folder.read(run / folder.METRICS, lambda _: json.loads(lines[-1])) if lines else {}


def _seconds_left(row: Mapping[str, Any], epochs: int | None) -> float | None:
    """The time for the other epochs, if they take as long as those before, without compiling and evaluating."""
    if not row or epochs is None:
        return None
    return float(row["seconds"]) / int(row["epoch"]) * (epochs - int(row["epoch"]))


def _exit_code(job: Path) -> int | None:
    """The exit code of the command of a job; None if it has none."""
    file = job.with_name(f"{job.name}.code")
    # It is empty while it is being written.
    return folder.read(file, lambda data: int(data) if data.strip() else None) if file.is_file() else None


def _last_words(file: Path) -> str:
    """The last line of a log that is not empty; if it belongs to an error of seqjax, all lines of the error."""
    if not file.is_file():
        return ""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - LONGEST))
        lines = [line.strip() for line in log.read().decode("utf-8", "replace").split("\n") if line.strip()]
    errors = [n for n, line in enumerate(lines) if line.startswith("seqjax: ")]
    return "; ".join(lines[errors[-1] if errors else -1 :])

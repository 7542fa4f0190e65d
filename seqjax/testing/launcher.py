"""Checks of a launcher: each job runs once as it was given, and its log, its exit code and its end are right."""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from seqjax.errors import Error
from seqjax.plugin.author import Mistake
from seqjax.sweeps.launching.launcher import Job, Launcher, start, still_alive
from seqjax.testing.compare import Failed, Skipped
from seqjax.testing.line import Check, Found
from seqjax.testing.process import in_another_process

DEADLINE = 600.0
"""Seconds after which jobs that need less than one have to be done; a cluster may have a queue."""
DELAY = 10.0
"""Seconds between the exit code of a job and the moment when `alive` leaves the job out, at most: a cluster is slow."""

BEGIN = """
import json, os, signal, sys, time
base, *arguments = sys.argv[1:]

def write(ending, text):
    with open(base + ending, "a") as file:
        file.write(text)

def wait_for(ending):
    for _ in range(1000):
        if os.path.exists(base + ending):
            return
        time.sleep(0.02)
    sys.exit("this job has waited for 20 seconds")

write(".started", os.getcwd() + "\\n")
"""
"""How each job begins: it notes that it was started, and where."""
NOTHING = ""
PRINTS = """
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
"""
ARGUMENTS = """
write(".arguments", json.dumps(arguments) + "\\n")
"""
ENDS = """
if arguments[0] == "exit":
    sys.exit(int(arguments[1]))
os.kill(os.getpid(), int(arguments[1]))
"""
WAITS = """
wait_for(".go")
"""
SAVES = """
def save(signum, frame):
    time.sleep(0.5)  # as long as a run needs to be saved
    write(".saved", "")
    sys.exit(128 + signum)

signal.signal(signal.SIGTERM, save)
write(".ready", "")
wait_for(".go")
"""


def checks(launcher: Launcher) -> Sequence[Check]:
    """The checks of a launcher; the first one is that its jobs run."""
    return CHECKS


def check_launch(launcher: Launcher) -> Found:
    """Checks what `launch` returns, and that two jobs end with the exit code 0."""
    with _folder() as folder:
        jobs = [_job(folder, f"job {n}", NOTHING) for n in (1, 2)]
        ids = _launch(launcher, jobs)
        _check_codes(jobs, _finish(launcher, jobs, ids), [0, 0])
    return Found(note="it returns before its jobs end" if ids else "it waits for its jobs")


def check_started(launcher: Launcher) -> Found:
    """Checks that each of many jobs is started once, in the current folder."""
    with _folder() as folder:
        jobs = [_job(folder, f"job {n}", NOTHING) for n in range(MANY)]
        _check_codes(jobs, _run(launcher, jobs), [0] * len(jobs))
        for job in jobs:
            places = _file(job, "started").read_text().splitlines()
            if len(places) != 1:
                raise Failed(f"one of {len(jobs)} jobs was started {len(places)} times")
            if places != [os.getcwd()]:
                raise Failed(f"a job was started in {places[0]}, and the current folder is {os.getcwd()}")
    return Found(note=f"{MANY} jobs")


def check_log(launcher: Launcher) -> Found:
    """Checks that stdout and stderr are appended to the log, which may hold the output of an earlier start."""
    with _folder() as folder:
        job = _job(folder, "job", PRINTS)
        job.log.write_text("what an earlier start has printed\n")
        _run(launcher, [job])
        text = _read(job.log)
        for line in ("what an earlier start has printed", "to stdout", "to stderr"):
            if text.count(line) != 1:
                raise Failed(f"the line {line!r} is {text.count(line)} times in the log, and belongs there once")
    return Found()


def check_codes(launcher: Launcher) -> Found:
    """Checks the exit codes of jobs that fail, and of jobs that a signal ends."""
    wanted = {"exit 3": 3, "exit 143": 143, "signal 9": 137, "signal 15": 143}
    with _folder() as folder:
        jobs = [_job(folder, name, ENDS, *name.split()) for name in wanted]
        _check_codes(jobs, _run(launcher, jobs), list(wanted.values()))
    return Found()


def check_arguments(launcher: Launcher) -> Found:
    """Checks that a job gets its arguments unchanged, whatever characters they have, and has the name of any run."""
    with _folder("a folder") as folder:
        jobs = [_job(folder, name, ARGUMENTS, *GIVEN) for name in ("", "gradient=full, seed=0", "50%/j: ü")]
        _check_codes(jobs, _run(launcher, jobs), [0] * len(jobs))
        for job in jobs:
            arguments = json.loads(_read(_file(job, "arguments")).partition("\n")[0])
            for got, want in zip([*arguments, None], [*GIVEN, None], strict=False):
                if got != want:
                    raise Failed(f"the argument {want!r} of a job becomes {got!r}")
    return Found()


def check_progress(launcher: Launcher) -> Found:
    """Checks that `show_progress` is called while a job runs, or that `launch` returns before."""
    with _folder() as folder:
        job = _job(folder, "job", WAITS)

        def go():
            if _file(job, "started").exists():
                _file(job, "go").touch()

        ids = _launch(launcher, [job], go)
        if not ids and not _file(job, "go").exists():
            raise Failed("launch waits for a job, and does not call show_progress while the job runs")
        _file(job, "go").touch()
        _check_codes([job], _finish(launcher, [job], ids), [0])
    return Found()


def check_interrupt(launcher: Launcher) -> Found:
    """Checks that jobs are ended with SIGTERM, and have ended, when `launch` has raised KeyboardInterrupt."""
    with _folder() as folder:
        jobs = [_job(folder, f"job {n}", SAVES) for n in (1, 2)]
        ready: list[Job] = []

        def interrupt():
            ready[:] = [job for job in jobs if _file(job, "ready").exists()]
            if ready:
                raise KeyboardInterrupt

        try:
            ids = _launch(launcher, jobs, interrupt)
        except KeyboardInterrupt:
            ids = {}
        else:
            if not ids:
                raise Failed("launch goes on after show_progress has raised KeyboardInterrupt")
        if ids:
            for job in jobs:
                _file(job, "go").touch()
            _finish(launcher, jobs, ids)
            raise Skipped("launch returns before its jobs end")
        for job in ready:
            if not _file(job, "saved").exists():
                raise Failed("launch has ended, and a job got no SIGTERM, or is still saving its run")
        _check_codes(ready, [_code(job, 0) for job in ready], [143] * len(ready))
    return Found(note=f"{len(ready)} jobs")


def check_unknown(launcher: Launcher) -> Found:
    """Checks that `alive` takes ids that it never knew, or of jobs that have ended."""
    for ids in ([], [""], ["no-such-job", "0"]):
        states = still_alive(launcher, ids)
        if states:
            raise Failed(f"alive({ids}) returned {states}, and no such job was started")
    return Found()


def check_alive(launcher: Launcher) -> Found:
    """Checks that a running job is known here and in another process, until it has ended."""
    with _folder() as folder:
        jobs = [_job(folder, f"job {n}", WAITS) for n in (1, 2)]

        def go():
            for job in jobs:
                _file(job, "go").touch()

        ids = _launch(launcher, jobs, go)
        if not ids:
            raise Skipped("launch waits for its jobs")
        try:
            here = still_alive(launcher, list(ids.values()))
            there = in_another_process(launcher, "states_of_jobs", list(ids.values()))
            for where, states in (("alive", here), ("in another process, alive", there)):
                if states.keys() != set(ids.values()):
                    raise Failed(f"{where} returned {states} for the jobs {list(ids.values())}, which have not ended")
        finally:
            go()
            _finish(launcher, jobs, ids)
    return Found()


CHECKS = (
    Check(
        "launch", check_launch,
        "launch(jobs, show_progress) starts the command of each job and has its exit code written into job.code; it "
        "waits for the jobs and returns {}, or returns the id of each job",
    ),
    Check(
        "once, in the current folder", check_started,
        "start each job once, also those that have to wait for a free place, and leave the folder as it is",
    ),
    Check("log", check_log, 'open job.log in the mode "ab", for both stdout and stderr'),
    Check(
        "exit codes", check_codes,
        "job.code has the exit code of the command itself, or 128 + n if signal n ended it, which subprocess reports "
        "as -n",
    ),
    Check(
        "arguments", check_arguments,
        "give subprocess the list job.command; for a script of a shell, quote it with shlex.join(job.command)",
    ),
    Check(
        "progress", check_progress,
        "while jobs run, call show_progress several times a second: it prints, and raises KeyboardInterrupt at Ctrl-C",
    ),
    Check(
        "interruption", check_interrupt,
        "in a `finally`, end the jobs with SIGTERM, wait for them, and write their exit codes; let the exception pass",
    ),
    Check("alive of unknown jobs", check_unknown, "alive returns the jobs that have not ended, and no others"),
    Check(
        "alive of running jobs", check_alive,
        "`seqjax status` asks in another process: an id says all that is needed to find the job",
    ),
)  # fmt: skip

MANY = min(os.cpu_count() or 1, 8) + 4
"""The number of jobs of a check, more than can run at a time on a small machine."""
GIVEN = ("two words", "it's", 'say "hi"', "$HOME `id` \\n \\", "*", "", "a;b|c>d&e", "--flag=é, ü", "%j #1", "~")
"""The arguments of a job."""


@contextlib.contextmanager
def _folder(name: str = "jobs") -> Iterator[Path]:
    """A temporary folder in the current one, which the machines of a cluster share."""
    with tempfile.TemporaryDirectory(prefix="seqjax-check-", dir=".", ignore_cleanup_errors=True) as parent:
        folder = Path(os.path.relpath(parent)) / name  # a sweep too has relative paths
        folder.mkdir()
        yield folder


def _job(folder: Path, name: str, program: str, *arguments: str) -> Job:
    """A job that runs a program."""
    base = folder / str(len(list(folder.glob("*.py"))) + 1)
    base.with_suffix(".py").write_text(BEGIN + program, "utf-8")
    command = (sys.executable, str(base.with_suffix(".py").absolute()), str(base.absolute()), *arguments)
    return Job(name, command, base.with_suffix(".log"), base.with_suffix(".code"))


def _file(job: Job, ending: str) -> Path:
    """A file that a job writes, or waits for."""
    return job.log.with_suffix(f".{ending}")


def _read(file: Path) -> str:
    """The text of a file that a job should have written."""
    if not file.is_file():
        raise Failed(f"a job has ended, and there is no {file.suffix} file")
    return file.read_text("utf-8", "replace")


def _run(launcher: Launcher, jobs: Sequence[Job]) -> list[int]:
    """The exit codes of jobs."""
    return _finish(launcher, jobs, _launch(launcher, jobs))


def _launch(launcher: Launcher, jobs: Sequence[Job], at_progress: Callable[[], None] = lambda: None) -> dict[str, str]:
    """What `launch` returns. If the launcher says that it cannot work here, the check is not made."""
    calls, end = 0, time.monotonic() + DEADLINE

    def show_progress():
        nonlocal calls
        calls += 1
        if time.monotonic() > end:
            raise Failed(f"after {DEADLINE:.0f} seconds, launch still waits for its jobs")
        at_progress()

    try:
        ids = start(launcher, jobs, show_progress)
    except (Failed, Mistake):
        raise
    except Error as why:
        raise Skipped(str(why)) from why
    if not ids and not calls:
        raise Failed("launch returned {}, as if it had waited for the jobs, and has not called show_progress")
    if ids and ids.keys() != {job.name for job in jobs}:
        raise Failed(f"launch returned ids of {len(ids)} of {len(jobs)} jobs")
    return ids


def _finish(launcher: Launcher, jobs: Sequence[Job], ids: Mapping[str, str]) -> list[int]:
    """Waits until no job is alive, and returns the exit codes."""
    end, ended = time.monotonic() + DEADLINE, None
    while ids and (states := still_alive(launcher, list(ids.values()))):
        now = time.monotonic()
        if ended is None and all(job.code.is_file() for job in jobs):
            ended = now
        if ended is not None and now > ended + DELAY:
            raise Failed(f"alive returned {states}, and the exit codes of these jobs are there for {DELAY:.0f} seconds")
        if now > end:
            raise Failed(f"after {DEADLINE:.0f} seconds, alive returned {states}")
        time.sleep(0.2)
    return [_code(job, DELAY if ids else 0) for job in jobs]


def _code(job: Job, delay: float) -> int:
    """The exit code of a job that has ended, for which it waits so many seconds."""
    end = time.monotonic() + delay
    while not job.code.is_file() and time.monotonic() < end:
        time.sleep(0.2)
    text = _read(job.code)
    try:
        return int(text)
    except ValueError as fault:
        raise Failed(f"the .code file of a job has {text!r:.40}, and must have its exit code") from fault


def _check_codes(jobs: Sequence[Job], actual: Sequence[int], wanted: Sequence[int]) -> None:
    """Checks the exit codes of jobs."""
    for job, got, want in zip(jobs, actual, wanted, strict=True):
        if got != want:
            text = job.log.read_text("utf-8", "replace").strip() if job.log.is_file() else ""
            last = text.rpartition("\n")[2] or "empty"
            raise Failed(f"the .code file of job {job.name!r} has {got}, not {want}; its log ends: {last:.200}")

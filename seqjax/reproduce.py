"""`reproduce`: runs the experiments of a folder, each once, and writes what they found on one page."""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from seqjax.devices import num_cores
from seqjax.errors import Error, is_whole
from seqjax.folder import disk_errors, write
from seqjax.interrupt import sigterm_raises
from seqjax.report import Report

DONE, LOG, REPORT = "done.json", "log.txt", "report.md"
"""What an experiment leaves: what it was, what it printed, and what it found."""
POLL_SECONDS = 0.05
"""How often to look whether a script has ended."""


class Finding(NamedTuple):
    """What one experiment found.

    Args:
        script: its file.
        folder: where its report lies.
        seconds: how long it took.
        made_with: the cores and versions that it ran with.
    """

    script: Path
    folder: Path
    seconds: float
    made_with: str

    @property
    def report(self) -> str:
        """The report as Markdown."""
        return (self.folder / REPORT).read_text("utf-8")

    @property
    def title(self) -> str:
        """What is asked."""
        return self.report.partition("\n")[0].removeprefix("# ")

    @property
    def command(self) -> str:
        """What was run."""
        return shlex.join(["python", str(self.script), *_flags(self.script)])

    @property
    def rows(self) -> list[dict[str, str]]:
        """The results: what, got, low, high, n, expected, met; none where a report has only tables and figures."""
        file = self.folder / "rows.csv"
        return list(csv.DictReader(io.StringIO(file.read_text("utf-8"), newline=""))) if file.is_file() else []


class _Job(NamedTuple):
    """A script that runs."""

    script: Path
    folder: Path
    sha256: str
    cores: set[int]
    began: float
    process: subprocess.Popen[bytes]


def reproduce(scripts: Iterable[Path], out: Path, jobs: int = 1, progress: bool = False) -> None:
    """Runs each script that has not been run as it is, as a process of its own, with the flags that it names itself.

    Those are of the command in the first line of its docstring: `Is it so?   python so.py --seeds 5`. What else has
    changed, such as seqjax, is not looked at: without the script's folder in `out` it is run anew.

    Args:
        scripts: files that end with `sj.script(main)`, whose `main` returns a `Report`.
        out: the folder of the reports; each gets one of its own by its script's name.
        jobs: how many run at a time, each on its own share of the cores (where the system can say so). A small model
            gains little from a second core, and two scripts on a core each end sooner than one after the other on both.
        progress: whether to print what happens.

    Raises:
        Error: no such number of jobs; experiments failed; the others were run all the same.
    """
    if not is_whole(jobs) or jobs < 1:
        raise Error(f"jobs = {jobs!r} must be a whole number, at least 1")
    waiting, running, faults = deque[Path](), list[_Job](), list[Error]()
    for script in scripts:
        if found([script], out):
            _tell(script, out, progress)
        else:
            waiting.append(script)
    free = _shares(jobs)
    try:
        with sigterm_raises():
            while waiting or running:
                ended = [job for job in running if job.process.poll() is not None]
                try:
                    if ended:
                        running.remove(ended[0])
                        free.append(ended[0].cores)
                        _finish(ended[0])
                        _tell(ended[0].script, out, progress)
                    elif waiting and free:
                        running.append(_start(waiting.popleft(), out, free[-1], progress, alone=jobs == 1))
                        free.pop()
                    else:
                        time.sleep(POLL_SECONDS)
                except Error as fault:
                    faults.append(fault)
    finally:
        for job in running:
            job.process.kill()
            job.process.wait()
    if faults:
        raise Error(
            "these failed; the same command runs them again, and no others:",
            problems=list(map(str, faults)),
            exit_code=faults[0].exit_code,
        )


def found(scripts: Iterable[Path], out: Path) -> list[Finding]:
    """What is kept of those scripts that have been run as they are now."""
    findings = []
    for script in scripts:
        folder = out / script.stem
        try:
            done = json.loads((folder / DONE).read_text("utf-8"))
            finding = Finding(script, folder, float(done["seconds"]), str(done["made_with"]))
        except (OSError, ValueError, KeyError, TypeError):  # never run to its end, or damaged: it is run again
            continue
        if done["sha256"] == _sha256(script) and (folder / REPORT).is_file():
            findings.append(finding)
    return findings


def _shares(jobs):
    """The cores of this process, dealt out to jobs; more jobs than cores share them all."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(num_cores()))
    return [set(cores[n::jobs] or cores) for n in range(jobs)]


def _start(script, out, cores, progress, alone):
    """Starts a script, whose report is written into its folder."""
    folder = out / script.stem
    command = [sys.executable, str(script), *_flags(script), "--out", str(folder)]
    memory = {} if alone else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # of a GPU, which the first would take whole
    sha256 = _sha256(script)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (DONE, REPORT):
            (folder / name).unlink(missing_ok=True)
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=memory | os.environ)
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(process.pid, cores)
    if progress:
        print(f"runs     {script} (prints into {folder / LOG})", flush=True)
    return _Job(script, folder, sha256, cores, time.monotonic(), process)


def _finish(job):
    """Notes of a script that has ended how long it took, and with what."""
    seconds, code = time.monotonic() - job.began, job.process.returncode
    if code:
        with disk_errors(job.folder):
            last = (job.folder / LOG).read_text("utf-8", "replace").strip().rpartition("\n")[2]
        raise Error(f"{job.script} ended with {code}: {last}; see {job.folder / LOG}", exit_code=max(code, 1))
    if not (job.folder / REPORT).is_file():
        raise Error(f"{job.script} left no report: it should end with sj.script(main), and main return a Report")
    cores = f"{len(job.cores)} core{'s' * (len(job.cores) != 1)}"
    made_with = ", ".join([cores, *(f"{name} {importlib.metadata.version(name)}" for name in ("seqjax", "jax"))])
    write(job.folder / DONE, json.dumps({"sha256": job.sha256, "seconds": seconds, "made_with": made_with}) + "\n")


def _tell(script, out, progress):
    """Prints how much of what is known is as expected."""
    if progress and (done := found([script], out)):
        met = [row["met"] for row in done[0].rows if row["met"]]
        print(
            f"has      {done[0].folder}: {met.count('yes')} of {len(met)} as expected, {done[0].seconds:.0f} s",
            flush=True,
        )


def _flags(script):
    """Those of the command that a script's docstring names."""
    command = Report(script).command
    try:
        words = shlex.split(command)
    except ValueError as fault:
        raise Error(f"{script}: the command in its docstring, `{command}`, cannot be read: {fault}") from fault
    return words[2:] if words[:1] == ["python"] else []


def _sha256(script):
    return hashlib.sha256(script.read_bytes()).hexdigest()

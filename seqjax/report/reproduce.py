"""`reproduce`: runs the experiments of a folder, each once, and writes what they found on one page."""

import ast
import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from seqjax.errors import Error, is_whole
from seqjax.files import disk_errors, write
from seqjax.report.report import Report
from seqjax.training.devices import num_cores

DONE, LOG, REPORT, ROWS = "done.json", "log.txt", "report.md", "rows.csv"
"""What an experiment leaves: what it was, what it printed, and what it found."""
POLL_SECONDS = 0.05
"""How often to look whether a script has ended."""


class Finding(NamedTuple):
    """What one experiment found.

    Args:
        script: its file.
        folder: where its report lies.
        words: what the script's docstring said when it was run, as the report begins.
        began: when, in seconds since 1970.
        seconds: how long it took.
        made_with: the cores and versions that it ran with.
    """

    script: Path
    folder: Path
    words: str
    began: float
    seconds: float
    made_with: str

    @property
    def report(self) -> str:
        """The report as Markdown, under what the script's docstring says now."""
        text = (self.folder / REPORT).read_text("utf-8")
        found = text.removeprefix(self.words)
        return Report(self.script).to_markdown() + found if text.startswith(self.words) else text

    @property
    def title(self) -> str:
        """What is asked."""
        return self.report.partition("\n")[0].removeprefix("# ")

    @property
    def command(self) -> str:
        """What was run."""
        return shlex.join(["python", str(self.script), *_flags(self.script)])

    @property
    def figures(self) -> list[Path]:
        """The files that the report shows."""
        return [self.folder / name for name in re.findall(r"^!\[.*?\]\((.*?)\)$", self.report, re.MULTILINE)]

    @property
    def rows(self) -> list[dict[str, str]]:
        """The results: what, got, low, high, n, expected, met; none where a report has only tables and figures."""
        file = self.folder / ROWS
        return list(csv.DictReader(io.StringIO(file.read_text("utf-8"), newline=""))) if file.is_file() else []


class _Job(NamedTuple):
    """A script that runs."""

    script: Path
    folder: Path
    cores: list[int]
    process: subprocess.Popen[bytes]
    done: dict[str, Any]
    """What is noted of it when it has ended."""


def reproduce(scripts: Iterable[Path], out: Path, jobs: int = 1, progress: bool = False) -> None:
    """Runs each script that has not been run as it is, as a process of its own, with the flags that it names itself.

    Those are of the command in the first line of its docstring: `Is it so?   python so.py --seeds 5`. The rest of that
    docstring may change, as when the conclusion is written, and the script is not run again. Nor is it when something
    else changes, such as seqjax: without the script's folder in `out` it is run anew.

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
    waiting = deque[Path]()
    for script in scripts:
        if known := found([script], out):
            _tell(known, progress)
        else:
            waiting.append(script)
    faults = _run(waiting, out, min(jobs, len(waiting)), progress)
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
            kept = str(done["words"]), float(done["began"]), float(done["seconds"]), str(done["made_with"])
            finding = Finding(script, folder, *kept)
            if done["sha256"] == _sha256(script) and all(file.is_file() for file in finding.figures):
                findings.append(finding)
        except (Error, OSError, ValueError, KeyError, TypeError):  # never run to its end, or damaged: it is run again
            continue
    return findings


def _run(waiting, out, jobs, progress):
    """Runs scripts, so many at a time; returns the errors of those that failed."""
    running, faults, free = list[_Job](), list[Error](), _shares(jobs)
    with sigterm_raises():
        try:
            while waiting or running:
                ended = [job for job in running if job.process.poll() is not None]
                try:
                    if ended:
                        running.remove(ended[0])
                        free.append(ended[0].cores)
                        _finish(ended[0])
                        _tell(found([ended[0].script], out), progress)
                    elif waiting and free:
                        running.append(_start(waiting.popleft(), out, free[-1], jobs, progress))
                        free.pop()
                    else:
                        time.sleep(POLL_SECONDS)
                except Error as fault:
                    faults.append(fault)
        finally:
            for job in running:
                job.process.kill()
            for job in running:
                job.process.wait()
    return faults


def _cores():
    """Those of this process; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _shares(jobs):
    """The cores of this process, dealt out to jobs; all to each where there are fewer, or the system cannot."""
    cores = _cores()
    return [cores[n::jobs] if jobs <= len(cores) else cores for n in range(jobs)]


def _start(script, out, cores, jobs, progress):
    """Starts a script, whose report is written into its folder."""
    folder = out / script.stem
    command = [sys.executable, str(script), *_flags(script), "--out", str(folder)]
    n = len(cores) or num_cores()
    at_a_time = f" each, {jobs} at a time" if jobs > 1 else ""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("seqjax", "jax")]
    done = {
        "sha256": _sha256(script),
        "words": Report(script).to_markdown(),
        "began": time.time(),
        "made_with": ", ".join([f"{n} core{'s' * (n != 1)}{at_a_time}", *versions]),
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (DONE, REPORT, ROWS):
            (folder / name).unlink(missing_ok=True)
        log = (folder / LOG).open("wb")
    if progress:
        print(f"runs     {script} (prints into {folder / LOG})", flush=True)
    with log, _on(cores):
        process = _popen(command, log, jobs)
    return _Job(script, folder, cores, process, done)


def _popen(command, log, jobs):
    """A process that prints into a file; of a GPU's memory, which the first of many would take whole, what it needs."""
    memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if jobs > 1 else {}
    try:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=memory | os.environ)
    except OSError as fault:
        raise Error(f"{command[1]} cannot be started: {fault.strerror}; fewer jobs need less") from fault


@contextlib.contextmanager
def _on(cores):
    """Within, what is started runs on these cores."""
    before = _cores()
    if cores == before:
        yield
        return
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _finish(job):
    """Notes of a script that has ended what it was and how long it took."""
    seconds, code = time.time() - job.done["began"], job.process.returncode
    if code:
        with disk_errors(job.folder):
            last = (job.folder / LOG).read_text("utf-8", "replace").strip().rpartition("\n")[2]
        raise Error(f"{job.script} ended with {code}: {last}; see {job.folder / LOG}", exit_code=max(code, 1))
    if not (job.folder / REPORT).is_file():
        raise Error(f"{job.script} left no report: it should end with sj.script(main), and main return a Report")
    write(job.folder / DONE, json.dumps(job.done | {"seconds": seconds}) + "\n")


def _tell(findings, progress):
    """Prints how much of what is known is as expected."""
    for finding in findings if progress else []:
        met = [row["met"] for row in finding.rows if row["met"]]
        as_expected = f"{met.count('yes')} of {len(met)} as expected"
        print(f"has      {finding.folder}: {as_expected}, {finding.seconds:.0f} s", flush=True)


def _flags(script):
    """Those of the command that a script's docstring names."""
    command = Report(script).command
    try:
        words = shlex.split(command)
    except ValueError as fault:
        raise Error(f"{script}: the command in its docstring, `{command}`, cannot be read: {fault}") from fault
    if command and words[:1] != ["python"]:
        raise Error(f"{script}: the command in its docstring, `{command}`, does not begin with python")
    return words[2:]


def _sha256(script):
    """Of all that decides what a script does: the file but for its docstring, and the flags."""
    source = script.read_bytes()
    first, lines = ast.parse(source).body[:1], source.splitlines(keepends=True)
    if first and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant):
        del lines[first[0].lineno - 1 : first[0].end_lineno]
    return hashlib.sha256(b"".join(lines) + shlex.join(_flags(script)).encode()).hexdigest()


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises `SystemExit` with exit code 143, as Ctrl-C raises `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

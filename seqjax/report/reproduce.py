"""`reproduce`: runs scripts that return reports, each once, several at a time."""

import importlib.metadata
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from seqjax.errors import Error
from seqjax.files import disk_errors, write
from seqjax.report.board import Board
from seqjax.report.finding import DONE, Finding, flags, found, sha256
from seqjax.report.report import REPORT, ROWS, Report

LOG = "log.txt"
"""The file of what a script prints."""


def reproduce(scripts: Sequence[Path], out: Path, jobs: int = 1) -> None:
    """Runs each script whose current code was not run yet, in a process of its own, and prints the progress.

    A script is run with the flags of the command in the first line of its docstring: `Is it so?   python so.py --n 5`.
    It is run again if its code or these flags have changed. The other words of its docstring may change, as when the
    conclusion is written. If something else has changed, such as seqjax, remove the script's folder in `out` first.

    Args:
        scripts: files that end with `sj.script(main)`, whose `main` returns a `Report`.
        out: the folder of the reports, in which each script gets a folder of its own name.
        jobs: how many scripts run at a time, each on its own share of the cores (on systems that can bind a process to
            cores). A small model gains little from a second core, so that two scripts on one core each take less time
            than one after the other on both.

    Raises:
        Error: `jobs` is below 1; some scripts failed; all others were run.
    """
    if jobs < 1:
        raise Error(f"jobs = {jobs} must be at least 1")
    kept = found(scripts, out)
    waiting = [script for script in scripts if script not in {finding.script for finding in kept}]
    jobs = max(1, min(jobs, len(waiting)))
    shares = _shares_of_cores(jobs)
    thread, running, stopped = threading.local(), list[subprocess.Popen[bytes]](), threading.Event()
    # The first of several processes on a GPU would reserve most of its memory.
    environment = ({"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if jobs > 1 else {}) | os.environ

    def run(script: Path) -> None:
        folder = out / script.stem
        command = [sys.executable, str(script), *flags(script), "--out", str(folder)]
        done = _provenance(script, len(thread.cores), jobs)
        with _empty(folder) as log:
            board.start(script, folder / LOG)
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if thread.cores:
            os.sched_setaffinity(process.pid, thread.cores)
        running.append(process)
        # If the main thread stopped all processes before the line above, it did not see this one.
        if stopped.is_set():
            process.kill()
        try:
            code = process.wait()
            if stopped.is_set():
                raise Error(f"{script}: interrupted; the same command runs it again")
            _finish(script, folder, code, done)
        except Error as fault:
            board.end(script, str(fault), failed=True)
            raise
        changed = f"{folder}: {script} has changed since it was started; the same command runs it again"
        board.end(script, next(map(_met, found([script], out)), changed))

    faults = []
    start = lambda: setattr(thread, "cores", shares.pop())
    with Board(len(scripts)) as board, ThreadPoolExecutor(jobs, initializer=start) as pool:
        for finding in kept:
            board.end(finding.script, _met(finding))
        try:
            for future in [pool.submit(run, script) for script in waiting]:
                try:
                    future.result()
                except Error as fault:
                    faults.append(fault)
        # Ctrl-C, SIGTERM or a bug. The pool waits for its threads, which wait for their processes.
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stopped.set()
            for process in running:
                process.kill()
            raise
    if faults:
        text = "these failed; the same command runs them again, and no others:"
        raise Error(text, problems=map(str, faults), exit_code=faults[0].exit_code)


def _shares_of_cores(jobs: int) -> list[list[int]]:
    """The cores of each job: disjoint if there are enough, else all; empty where a process cannot be bound to cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [cores[n::jobs] if jobs <= len(cores) else cores for n in range(jobs)]


def _provenance(script: Path, cores: int, jobs: int) -> dict[str, Any]:
    """The record of a script, made before it runs because its file may change meanwhile."""
    n = cores or os.cpu_count() or 1
    at_a_time = f" each, {jobs} at a time" if jobs > 1 else ""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("seqjax", "jax")]
    made_with = ", ".join([f"{n} core{'s' * (n != 1)}{at_a_time}", *versions])
    return {
        "sha256": sha256(script),
        "head": Report(script).to_markdown(),
        "made_with": made_with,
        "began": time.time(),
    }


def _empty(folder: Path) -> BinaryIO:
    """Makes a script's folder, without the results of an earlier run, and opens its log."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (DONE, REPORT, ROWS):
            (folder / name).unlink(missing_ok=True)
        return (folder / LOG).open("wb")


def _finish(script: Path, folder: Path, code: int, done: dict[str, Any]) -> None:
    """Writes the record of a script that ended well; an error if it failed."""
    if code:
        last = (folder / LOG).read_text("utf-8", "replace").strip().rpartition("\n")[2]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        raise Error(f"{script} {how}{last and f': {last}'}; see {folder / LOG}", exit_code=code if code > 1 else 2)
    if not (folder / REPORT).is_file():
        raise Error(f"{script} left no report: it should end with sj.script(main), and main return a Report")
    write(folder / DONE, json.dumps(done | {"seconds": time.time() - done["began"]}) + "\n")


def _met(finding: Finding) -> str:
    """How many results of a script are as expected, and how long it took."""
    met = f"{finding.met.count('yes')} of {len(finding.met)} as expected"
    return f"{finding.folder}: {met}, {finding.seconds:.0f} s"

"""`reproduce`: runs the experiments of a folder, each once, and writes what they found on one page."""

import csv
import hashlib
import importlib.metadata
import io
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from seqjax.devices import num_cores
from seqjax.errors import Error
from seqjax.folder import disk_errors, write
from seqjax.interrupt import sigterm_raises
from seqjax.report import Report

DONE, LOG, REPORT = "done.json", "log.txt", "report.md"
"""What an experiment leaves: what it was, what it printed, and what it found."""


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


def reproduce(scripts: Iterable[Path], out: Path, progress: bool = False) -> None:
    """Runs each script that has not been run as it is, as a process of its own, with the flags that it names itself.

    Those are of the command in the first line of its docstring: `Is it so?   python so.py --seeds 5`. What else has
    changed, such as seqjax, is not looked at: without the script's folder in `out` it is run anew.

    Args:
        scripts: files that end with `sj.script(main)`, whose `main` returns a `Report`.
        out: the folder of the reports; each gets one of its own by its script's name.
        progress: whether to print what happens.

    Raises:
        Error: experiments failed; the others were run all the same.
    """
    faults = []
    for script in scripts:
        folder = out / script.stem
        if not found([script], out):
            if progress:
                print(f"runs     {script} (prints into {folder / LOG})", flush=True)
            try:
                _run(script, folder)
            except Error as fault:
                faults.append(fault)
        if progress and (done := found([script], out)):
            met = [row["met"] for row in done[0].rows if row["met"]]
            print(f"has      {folder}: {met.count('yes')} of {len(met)} as expected, {done[0].seconds:.0f} s")
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


def _run(script, folder):
    """Runs a script, whose report is written into a folder, and notes how long it took."""
    sha256 = _sha256(script)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (DONE, REPORT):
            (folder / name).unlink(missing_ok=True)
        began = time.monotonic()
        command = [sys.executable, str(script), *_flags(script), "--out", str(folder)]
        with (folder / LOG).open("w", encoding="utf-8") as log, sigterm_raises():
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        last = (folder / LOG).read_text("utf-8").strip().rpartition("\n")[2]
        raise Error(
            f"{script} ended with {done.returncode}: {last}; see {folder / LOG}",
            exit_code=done.returncode if done.returncode > 0 else 1,
        )
    if not (folder / REPORT).is_file():
        raise Error(f"{script} left no report: it should end with sj.script(main), and main return a Report")
    versions = " and ".join(f"{name} {importlib.metadata.version(name)}" for name in ("seqjax", "jax"))
    made_with = f"{num_cores()} cores, {versions}"
    write(folder / DONE, json.dumps({"sha256": sha256, "seconds": seconds, "made_with": made_with}) + "\n")


def _flags(script):
    """Those of the command that a script's docstring names."""
    words = shlex.split(Report(script).command)
    return words[2:] if words[:1] == ["python"] else []


def _sha256(script):
    return hashlib.sha256(script.read_bytes()).hexdigest()

"""`reproduce`: runs the experiments of a folder, each once, and writes what they found on one page."""

import csv
import hashlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from seqjax.errors import Error
from seqjax.folder import disk_errors, write

DONE, LOG = "done.json", "log.txt"
"""What an experiment leaves beside its report: what it was, and what it printed."""


class Finding(NamedTuple):
    """What one experiment found.

    Args:
        script: its file.
        folder: where its report lies.
        seconds: how long it took.
    """

    script: Path
    folder: Path
    seconds: float

    @property
    def report(self) -> str:
        """The report as Markdown."""
        return (self.folder / "report.md").read_text("utf-8")

    @property
    def title(self) -> str:
        """What is asked."""
        return self.report.partition("\n")[0].removeprefix("# ")

    @property
    def rows(self) -> list[dict[str, str]]:
        """The results: what, got, low, high, n, expected, met; none where a report has only tables and figures."""
        file = self.folder / "rows.csv"
        return list(csv.DictReader(io.StringIO(file.read_text("utf-8"), newline=""))) if file.is_file() else []


def reproduce(scripts: Iterable[Path], out: Path, progress: bool = False) -> None:
    """Runs each script that has not been run as it is, as a process of its own, at its full size.

    Args:
        scripts: files that end with `sj.script(main)`, whose `main` returns a `Report`.
        out: the folder of the reports; each gets one of its own by its script's name.
        progress: whether to print what happens.

    Raises:
        Error: an experiment failed; those before it are kept.
    """
    for script in scripts:
        if not found([script], out):
            if progress:
                print(f"runs     {script}", flush=True)
            _run(script, out / script.stem)
        if progress:
            (finding,) = found([script], out)
            met = [row["met"] for row in finding.rows if row["met"]]
            print(f"has      {finding.folder}: {met.count('yes')} of {len(met)} as expected, {finding.seconds:.0f} s")


def found(scripts: Iterable[Path], out: Path) -> list[Finding]:
    """What is kept of those scripts that have been run as they are now."""
    findings = []
    for script in scripts:
        folder = out / script.stem
        done = json.loads((folder / DONE).read_text("utf-8")) if (folder / DONE).is_file() else {}
        if done.get("sha256") == _sha256(script):
            findings.append(Finding(script, folder, done["seconds"]))
    return findings


def _run(script, folder):
    """Runs a script, whose report is written into a folder, and notes how long it took."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        began = time.monotonic()
        with (folder / LOG).open("w", encoding="utf-8") as log:
            command = [sys.executable, str(script), "--out", str(folder)]
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = (folder / LOG).read_text("utf-8").strip().rpartition("\n")[2]
        raise Error(
            f"{script} ended with {done.returncode}: {last}; see {folder / LOG}\n"
            "What was found before it is kept: the same command goes on here",
            exit_code=done.returncode if done.returncode > 0 else 1,
        )
    seconds = time.monotonic() - began
    write(folder / DONE, json.dumps({"sha256": _sha256(script), "seconds": seconds}) + "\n")


def _sha256(script):
    return hashlib.sha256(script.read_bytes()).hexdigest()

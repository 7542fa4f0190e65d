"""The command line from outside, and third parties' packages as pip would install them."""

import contextlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.build import build_wheel

PACKAGES = Path(__file__).parents[1] / "packages"
SEQJAX = Path(sys.executable).with_name("seqjax")
"""The console script: unlike `python -m seqjax` it does not put the working folder on sys.path."""


def install(name: str, site: Path) -> None:
    """Builds the package in the folder `name` offline and unpacks its wheel into `site`."""
    dist = site / "wheels" / name
    dist.mkdir(parents=True)
    with contextlib.chdir(PACKAGES / name):
        wheel = build_wheel(str(dist))
    zipfile.ZipFile(dist / wheel).extractall(site)


def run(command: list, *, cwd: Path | None = None, **env: str | None) -> subprocess.CompletedProcess:
    """Runs a command without a terminal; `env` is laid over the environment, None takes a variable out."""
    environ = {k: v for k, v in {**os.environ, **env}.items() if v is not None}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environ, capture_output=True, stdin=subprocess.DEVNULL, timeout=120
    )
    # Decoded here, since text mode would turn a carriage return into a new line.
    done.stdout, done.stderr = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    return done


def seqjax(*argv: object, **kwargs) -> subprocess.CompletedProcess:
    """Runs `seqjax ARGV`."""
    return run([SEQJAX, *argv], **kwargs)


def call(*argv: object) -> subprocess.CompletedProcess:
    """Runs `seqjax ARGV` in this process, which is quick."""
    from seqjax.cli import main

    argv = [str(arg) for arg in argv]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main(argv)
        except SystemExit as leaving:  # argparse's own --help
            code = leaving.code or 0
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())

"""What `make` says where it cannot set up the environment."""

import shutil
from pathlib import Path

import pytest
from support.shell import run

ROOT = Path(__file__).parents[1]
NO_PYTHON = "error: No interpreter found for Python >=3.12 in managed installations or search path"
NO_CACHE = "error: Failed to initialize cache at `/file`\n  cause: failed to create directory `/file`: File exists"
"""Two errors of uv."""


@pytest.fixture
def make(tmp_path):
    """Runs `make demo` in a new clone, with these programs on the PATH: name -> the text of the file."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)

    def make(programs):
        there = tmp_path / "bin"
        there.mkdir()
        for name in ("make", "nproc", "tr"):
            (there / name).symlink_to(shutil.which(name))
        for name, text in programs.items():
            (there / name).write_text(f"#!/bin/sh\n{text}\n")
            (there / name).chmod(0o755)
        # Of a make that runs this test, nothing is passed on.
        return run(["make", "demo"], cwd=tmp_path, PATH=str(there), MAKEFLAGS=None, MAKELEVEL=None)

    return make


def uv(error: str) -> str:
    """A uv that fails with this error, but for its version."""
    return f"""[ "$1" = --version ] || {{ echo '{error}' >&2; exit 2; }}"""


def test_an_error_of_uv_is_shown(make):
    done = make({"uv": uv(NO_CACHE)})
    assert done.stderr.startswith(f"{NO_CACHE}\n")
    assert "type the same command again" in done.stderr
    assert "none was found" not in done.stderr


def test_without_a_python_it_says_which_one_is_needed(make):
    done = make({"uv": uv(NO_PYTHON)})
    assert done.stderr.startswith("seqjax needs Python 3.12 or newer, and none was found on this machine.\n")


@pytest.mark.parametrize(
    "programs", [{}, {"python3": "echo 'No module named pip' >&2; exit 1"}], ids=["none", "no pip"]
)
def test_without_uv_and_pip_it_says_that_one_is_needed(make, programs):
    done = make(programs)
    assert done.stderr.startswith("seqjax is set up by the program uv. Neither uv nor a python3 with pip")
    assert "not found\n" not in done.stderr
    assert "apt-get install python3-pip" in done.stderr

"""A small run that the verbs share."""

import os
from pathlib import Path

import pytest
from support.shell import seqjax
from support.small_run import C_LOCALE, EXPERIMENT, TEXT


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Keeps the number of devices of the test session."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(folder):
    """A run in folder/run, made by a separate process in the C locale. Returns the finished process."""
    done = seqjax("run", *EXPERIMENT, "--out", "run", cwd=folder, **C_LOCALE)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def run_(trained, folder, monkeypatch):
    """The path of that run, relative to its folder."""
    monkeypatch.chdir(folder)
    return Path("run")

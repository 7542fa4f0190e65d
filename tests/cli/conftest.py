"""A small run that the verbs share."""

import os
from pathlib import Path

import pytest
from support.shell import call
from support.small_run import EXPERIMENT, TEXT


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
    """A run in folder/run. Returns what its command has printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))
        done = call("run", *EXPERIMENT, "--out", "run")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def run_(trained, folder, monkeypatch):
    """The path of that run, relative to its folder."""
    monkeypatch.chdir(folder)
    return Path("run")

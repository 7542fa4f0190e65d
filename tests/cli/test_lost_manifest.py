"""Runs whose manifest was lost: every verb says so, and leaves the run as it is."""

import shutil

import pytest
from support.shell import call
from support.small_run import EXPERIMENT

from seqjax.runs.files import folder


@pytest.fixture
def lost(run_, tmp_path):
    copy = shutil.copytree(run_, tmp_path / "lost")
    (copy / folder.MANIFEST).unlink()
    return copy


VERBS = {
    "evaluate": ["evaluate", "RUN"],
    "run": ["run", *EXPERIMENT, "--out", "RUN"],
    "start from it": ["run", *EXPERIMENT, "--init-from", "RUN", "--out", "new"],
    "compare": ["compare", "RUN", "--page", "page.html"],
    "status": ["status", "RUN"],
    "track": ["track", "RUN", "--to", "tensorboard"],
    "reproduce": ["reproduce", "RUN"],
    "verify": ["verify", "RUN"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_that_it_is_missing(lost, verb):
    before = {file: file.read_bytes() for file in lost.rglob("*") if file.is_file()}
    done = call(*(lost if word == "RUN" else word for word in VERBS[verb]))
    assert done.returncode == 4
    assert f"{lost / folder.MANIFEST} is missing" in done.stdout + done.stderr
    assert {file: file.read_bytes() for file in lost.rglob("*") if file.is_file()} == before

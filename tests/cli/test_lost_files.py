"""Runs whose manifest or config was lost: every verb says so, and leaves the run as it is."""

import shutil

import pytest
from support.shell import call
from support.small_run import EXPERIMENT

from seqjax.runs.files import folder

VERBS = {
    "evaluate": ["evaluate", "RUN"],
    "run": ["run", *EXPERIMENT, "--out", "RUN"],
    "start from it": ["run", *EXPERIMENT, "--init-from", "RUN", "--out", "new"],
    "compare": ["compare", "RUN"],
    "status": ["status", "RUN"],
    "verify": ["verify", "RUN"],
}


@pytest.mark.parametrize("name", [folder.MANIFEST, folder.CONFIG])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_that_it_is_missing(run_, tmp_path, name, verb):
    lost = shutil.copytree(run_, tmp_path / "lost")
    (lost / name).unlink()
    before = {file: file.read_bytes() for file in lost.rglob("*") if file.is_file()}
    done = call(*(lost if word == "RUN" else word for word in VERBS[verb]))
    assert done.returncode == 4
    assert f"{lost / name} is missing" in done.stdout + done.stderr
    assert {file: file.read_bytes() for file in lost.rglob("*") if file.is_file()} == before

"""Runs that have no manifest, as those of an earlier seqjax: every verb says so in one sentence, and what to type."""

import re
import shutil

import pytest
from support.shell import call
from support.small_run import EXPERIMENT

from seqjax import Error, Run
from seqjax.runs.files import folder
from seqjax.sweeps.index import INDEX


@pytest.fixture
def old(run_, tmp_path):
    """The run as an earlier seqjax would have left it: without a manifest, and with rows that have no hash."""
    copy = shutil.copytree(run_, tmp_path / "old")
    (copy / folder.MANIFEST).unlink()
    text, count = re.subn(r', "hash": "[0-9a-f]+"\}', "}", (copy / folder.METRICS).read_text())
    assert count == 3
    (copy / folder.METRICS).write_text(text)
    return copy


VERBS = {
    "evaluate": ["evaluate", "RUN"],
    "generate": ["generate", "RUN"],
    "run": ["run", *EXPERIMENT, "--out", "RUN"],
    "more epochs": ["run", *EXPERIMENT, "--epochs", 5, "--out", "RUN"],
    "start from it": ["run", *EXPERIMENT, "--init-from", "RUN", "--out", "new"],
    "compare": ["compare", "RUN", "--page", "page.html"],
    "status": ["status", "RUN"],
    "track": ["track", "RUN", "--to", "tensorboard"],
    "reproduce": ["reproduce", "RUN"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_why_it_does_not_open_the_run_and_what_to_type(old, verb):
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    done = call(*(old if word == "RUN" else word for word in VERBS[verb]))
    assert (done.returncode, done.stdout) == (4, "")
    assert f"{old} has no manifest.json: it was lost, or an earlier seqjax has made this run\n" in done.stderr
    assert f"seqjax adopt {old}" in done.stderr
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


def test_a_run_of_a_sweep_is_named(old, tmp_path):
    (tmp_path / INDEX).write_text('{"seed=0": {"variant": "", "folder": "old"}}')
    for verb in ("compare", "status"):
        done = call(verb, tmp_path)
        assert done.returncode == 4
        assert f"{old} has no manifest.json" in done.stderr


def test_verify_shows_what_can_be_checked(old):
    done = call("verify", old)
    assert done.returncode == 4
    assert re.search(r"manifest\.json +missing +it was lost, or an earlier seqjax", done.stdout)
    assert re.search(r"dataset +ok", done.stdout)


def test_an_adopted_run_is_used_again(old, run_):
    with pytest.raises(Error, match="has no manifest"):
        Run.open(old)
    assert call("adopt", old).returncode == 0
    assert call("evaluate", old).stdout == call("evaluate", run_).stdout
    assert call("verify", old).returncode == 0

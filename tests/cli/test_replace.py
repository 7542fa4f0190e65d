"""Options that name an output file replace an earlier file of the same kind, and nothing else."""

import shutil
from pathlib import Path

import pytest
from support.shell import call


@pytest.mark.parametrize("name", ["history.png", "metrics.jsonl", "params.safetensors"])
def test_no_file_of_a_run_is_replaced(run_, tmp_path, name):
    copy = shutil.copytree(run_, tmp_path / "a")
    before = (copy / name).read_bytes()
    done = call("compare", copy, "--figure", copy / name)
    assert done.returncode == 2, done.stderr
    assert str(copy / name) in done.stderr
    assert (copy / name).read_bytes() == before


def test_a_figure_replaces_a_figure_and_nothing_else(run_, tmp_path):
    figure, text = tmp_path / "curves.svg", Path(tmp_path / "notes.svg")
    text.write_text("my notes")
    assert call("compare", run_, "--figure", text).returncode == 2
    assert text.read_text() == "my notes"
    for _ in range(2):
        assert call("compare", run_, "--figure", figure).returncode == 0
    assert b"<svg" in figure.read_bytes()


def test_a_file_that_is_empty_may_be_about_to_be_written(run_, tmp_path):
    rows = tmp_path / "metrics.png"
    rows.touch()
    assert call("compare", run_, "--figure", rows).returncode == 2
    assert rows.read_bytes() == b""

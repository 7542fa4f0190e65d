"""Options that name an output file replace an earlier file of the same kind, and nothing else."""

import shutil
from pathlib import Path

import pytest
from support.shell import call


@pytest.mark.parametrize(("option", "names"), [("--page", "*"), ("--figure", "history.png")])
def test_no_file_of_a_run_is_replaced(run_, tmp_path, option, names):
    copy = shutil.copytree(run_, tmp_path / "a")
    for file in filter(Path.is_file, copy.rglob(names)):
        before = file.read_bytes()
        done = call("compare", copy, option, file)
        assert done.returncode == 2, (file, done.stderr)
        assert str(file) in done.stderr
        assert file.read_bytes() == before


def test_a_page_replaces_a_page_and_nothing_else(run_, tmp_path):
    page, text = tmp_path / "page.html", tmp_path / "notes.html"
    text.write_text("<html>my notes</html>")
    assert call("compare", str(run_), "--page", str(text)).returncode == 2
    assert text.read_text() == "<html>my notes</html>"
    for _ in range(2):
        assert call("compare", str(run_), "--page", str(page)).returncode == 0
    assert b"<svg" in page.read_bytes()


def test_a_file_that_is_empty_may_be_about_to_be_written(run_, tmp_path):
    rows = tmp_path / "metrics.jsonl"
    rows.touch()
    assert call("compare", str(run_), "--page", str(rows)).returncode == 2
    assert rows.read_bytes() == b""

"""Options that name an output file replace an earlier file of the same kind, and nothing else."""

import shutil

import pytest
from support.shell import call


@pytest.mark.parametrize(
    ("option", "names"),
    [("--page", ["config.toml", "params.safetensors", "history.png", ".lock"]), ("--figure", ["history.png"])],
)
def test_no_file_of_a_run_is_replaced(run_, tmp_path, option, names):
    copy = shutil.copytree(run_, tmp_path / "a")
    for file in (copy / name for name in names):
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


@pytest.mark.parametrize("option", ["--page", "--markdown", "--table"])
def test_reproduce_says_so_before_it_runs_the_scripts(tmp_path, option):
    (tmp_path / "script.py").write_text("raise SystemExit('it was run')\n")
    (tmp_path / "mine.md").write_text("my notes\n")
    done = call("reproduce", str(tmp_path), "--out", str(tmp_path / "out"), option, str(tmp_path / "mine.md"))
    assert done.returncode == 2
    assert "another kind of file" in done.stderr
    assert not (tmp_path / "out").exists()

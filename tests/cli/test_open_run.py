"""Every verb that shows a run says that files of it were changed by hand."""

import shutil

import pytest
from seqjax.runs.adopt import adopt
from support.html_page import HTMLPage
from support.shell import call
from support.small_run import EXPERIMENT

from seqjax.runs.files import folder


@pytest.fixture
def changed(run_, tmp_path):
    """A copy of the small run, of which two files were changed and adopted."""
    copy = shutil.copytree(run_, tmp_path / "changed")
    (copy / folder.SAMPLES).write_text("mine")
    (copy / folder.HISTORY).unlink()
    assert adopt(copy) == [folder.HISTORY, folder.SAMPLES]
    return copy


SAID = "changed by hand: history.png, samples.txt"


@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "--part", "heldout"],
        ["generate", "--length", 3],
        pytest.param(["lags", "--max-lag", 2], marks=pytest.mark.slow),
        pytest.param(["measure", "--draws", 10, "--windows", 1], marks=pytest.mark.slow),
    ],
)
def test_verbs_whose_output_may_be_read_by_a_program_say_so_on_stderr(run_, changed, argv):
    verb, *options = argv
    done = call(verb, changed, *options)
    assert (done.returncode, done.stderr) == (0, f"note     {changed}: {SAID}\n")
    done = call(verb, run_, *options)
    assert (done.returncode, done.stderr) == (0, "")


def test_seqjax_run_says_so_when_it_opens_the_run(run_, changed):
    for path, said in ((changed, True), (run_, False)):
        done = call("run", *EXPERIMENT, "--out", path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "opened   " in done.stdout
        assert (f"note     {SAID}\n" in done.stdout) == said


def test_seqjax_run_says_so_when_it_resumes_the_run(changed):
    done = call("run", *EXPERIMENT, "--epochs", 4, "--out", changed)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"note     {SAID}\n" in done.stdout


def test_a_comparison_and_its_page_say_so(run_, changed, tmp_path):
    for path, said in ((changed, f"; {SAID}"), (run_, "")):
        done = call("compare", path, "--page", tmp_path / "page.html")
        assert (done.returncode, done.stderr) == (0, "")
        assert (f"note     {path}: {SAID}\n" in done.stdout) == bool(said)
        cells = HTMLPage((tmp_path / "page.html").read_text("utf-8")).texts["td"]
        assert [cell for cell in cells if cell.startswith("finished")] == [f"finished{said}"]

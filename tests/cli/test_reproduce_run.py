"""`seqjax reproduce RUN`: its table, its exit code, and where it trains."""

import os
import shutil
import signal
import tempfile

import pytest
from support.shell import call
from support.tiny import replace_file

from seqjax import Run
from seqjax.runs import listen
from seqjax.runs.files import folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, which is empty."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_a_run_is_trained_again_in_a_folder_that_is_removed(run_, temporary):
    files = {file: file.read_bytes() for file in run_.rglob("*") if file.is_file()}
    done = call("reproduce", run_)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("result   bitwise equal\n")
    for part in ("parameters", "train_loss", "heldout_perplexity", "samples"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{part} ")]
        assert " yes" in line
    assert not [line for line in done.stdout.splitlines() if line.startswith(("tokens_per_second ", "seconds "))]
    assert [*temporary.iterdir()] == []
    assert {file: file.read_bytes() for file in run_.rglob("*") if file.is_file()} == files


def test_a_run_that_differs_is_exit_4_and_the_other_run_can_be_kept(run_, tmp_path):
    copy = shutil.copytree(run_, tmp_path / "changed")
    text = (copy / folder.CONFIG).read_text()
    replace_file(copy, folder.CONFIG, text.replace("learning_rate = 1.0", "learning_rate = 0.5").encode())
    done = call("reproduce", copy, "--out", tmp_path / "other")
    assert done.returncode == 4
    assert "result   different\n" in done.stdout
    assert f"{copy} is not reproduced" in done.stderr
    assert "in which all metrics are equal within it: 0." in done.stderr
    assert f"The other run is in {tmp_path / 'other'}" in done.stderr
    assert Run.open(tmp_path / "other").experiment.optimizer.learning_rate == 0.5
    done = call("reproduce", copy, "--out", tmp_path / "other")
    assert (done.returncode, "holds a run that has ended" in done.stderr) == (2, True)


def test_within_tolerance_it_says_why_and_that_a_callback_has_ended_the_training(run_, tmp_path):
    Run.open(run_).experiment.run(tmp_path / "run", callback=lambda run: len(run.metrics) == 2)
    replace_file(tmp_path / "run", folder.SAMPLES, b"another text")
    done = call("reproduce", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "note     its callback ended training after epoch 2" in done.stdout
    assert "result   equal within tolerance\n" in done.stdout
    assert "more than 0.01 of its largest\nentry" in done.stdout


@pytest.mark.parametrize("out", [[], ["--out", "again"]])
def test_ctrl_c_says_whether_the_training_can_go_on(run_, temporary, tmp_path, monkeypatch, out):
    take = listen.Training.take

    def interrupt(*args):
        ended = take(*args)
        os.kill(os.getpid(), signal.SIGINT)
        return ended

    shutil.rmtree("again", ignore_errors=True)
    with monkeypatch.context() as patch:
        patch.setattr(listen.Training, "take", interrupt)
        done = call("reproduce", run_, *out)
    assert done.returncode == 130
    assert [*temporary.iterdir()] == []
    if out:
        assert f"next     seqjax reproduce {run_} --out again" in done.stderr
        done = call("reproduce", run_, *out)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "result   bitwise equal")
    else:
        assert "with --out DIR" in done.stderr
        assert "saved in" not in done.stderr


def test_a_folder_that_holds_a_sweep(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    done = call("reproduce", tmp_path)
    assert (done.returncode, "holds a sweep" in done.stderr) == (2, True)

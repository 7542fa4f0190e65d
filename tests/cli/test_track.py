"""`seqjax track`."""

import pytest
from support.crash import NoFigure, experiment
from support.shell import call
from support.small_run import NGRAM, TEXT

from seqjax import Run, sweep

NAME = "mlp, windows"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)
    monkeypatch.setattr(NoFigure, "savefig", lambda self, file, dpi, format: file.write(b"\x89PNG" + bytes(20)))
    experiment(NAME).run(tmp_path / "run")
    sweep(experiment(NAME, epochs=1), {"seed": [0, 1]}, tmp_path / "sweep")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_and_sweeps_are_mirrored_once(place):
    first, second = (call("track", "run", "sweep", "--to", "tensorboard") for _ in range(2))
    assert first.returncode == second.returncode == 0
    assert first.stdout == (
        "run: 2 epochs, 2 texts and figures\n"
        "sweep/seed-0: 1 epoch, 2 texts and figures\nsweep/seed-1: 1 epoch, 2 texts and figures\n"
    )
    assert second.stdout == (
        "run: nothing new\nsweep/seed-0: nothing new\nsweep/seed-1: nothing new\n"
        "note     what was sent is listed in tracking/tracked.json of each run; without this file all is sent again\n"
    )
    assert len(list(place.rglob("*tfevents*"))) == 3


def test_wrong_arguments(place):
    for argv, message in [
        (["run", "--to", "tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        (["run"], "required: --to"),
        (["nothing", "--to", "tensorboard"], "nothing holds no run and no sweep"),
        (["run", "--to", "trackio:projekt=x"], "no such field; did you mean 'project'"),
    ]:
        done = call("track", *argv)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_run_that_cannot_be_mirrored_does_not_stop_the_others(place):
    (place / "run" / "tensorboard").write_text("a file, and no folder")
    done = call("track", "run", "sweep", "--to", "tensorboard")
    assert done.returncode == 2
    assert done.stdout.count("1 epoch") == 2
    assert "1 of the runs were not mirrored:\n  run: tracker tensorboard: open raises FileExistsError" in done.stderr


def test_a_damaged_run_is_exit_4_as_elsewhere(place):
    metrics = place / "run" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b'"epoch": 1', b'"epoch": 7'))
    assert call("track", "sweep", "run", "--to", "tensorboard").returncode == 4


def test_a_run_with_a_tracker_of_the_command_line(place):
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    done = call("run", *NGRAM, "--out", "tracked", "--tracker", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert list((place / "tracked" / "tensorboard").iterdir())
    done = call("run", *NGRAM, "--out", "other", "--tracker.project", "mine")
    assert done.returncode == 2
    assert "--tracker.project: give the tracker too" in done.stderr

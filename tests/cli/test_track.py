"""`seqjax track`."""

from support.crash import NoFigure, experiment
from support.shell import call

from seqjax import Run, sweep

NAME = "mlp, windows"


def test_each_run_is_mirrored_once_and_a_fault_of_one_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)
    monkeypatch.setattr(NoFigure, "savefig", lambda self, file, format: file.write(b"\x89PNG" + bytes(20)))
    experiment(NAME).run(tmp_path / "run")
    sweep(experiment(NAME, epochs=1), {"seed": [0, 1]}, tmp_path / "sweep")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "tensorboard").write_text("a file, and no folder")
    done = call("track", "run", "sweep", "--to", "tensorboard")
    assert (done.returncode, done.stdout) == (
        2, "sweep/seed-0: 1 epoch, 2 texts and figures\nsweep/seed-1: 1 epoch, 2 texts and figures\n",
    )  # fmt: skip
    assert "1 of the runs were not mirrored:\n  run: tracker tensorboard: open raises FileExistsError" in done.stderr
    (tmp_path / "run" / "tensorboard").unlink()
    done = call("track", "run", "sweep", "--to", "tensorboard")
    assert (done.returncode, done.stdout) == (
        0, "run: 2 epochs, 2 texts and figures\nsweep/seed-0: nothing new\nsweep/seed-1: nothing new\n"
        "note     what was sent is listed in tracking/tracked.json of each run; without this file all is sent again\n",
    )  # fmt: skip
    assert len(list(tmp_path.rglob("*tfevents*"))) == 3
    metrics = tmp_path / "sweep" / "seed-1" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b'"epoch": 1', b'"epoch": 7'))
    assert call("track", "sweep", "run", "--to", "tensorboard").returncode == 4, "as elsewhere"

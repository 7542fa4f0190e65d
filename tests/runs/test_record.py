"""What a kill after the last parameters leaves undone is done by the next command, also by that of a sweep."""

import numpy as np
import pytest
from support.crash import Crash, NoFigure

from seqjax import Error, Experiment, Pairs, Run, Runs, Text, sweep
from seqjax.runs import folder, record
from seqjax.runs.files.manifest import RESULTS, read_manifest
from seqjax.runs.verify import OK, verify
from seqjax.training import feed
from seqjax_models import RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

TINY = Experiment(
    dataset=Text("the cat sat on the mat. " * 20), model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=SGD(0.5),
    epochs=3,
)  # fmt: skip
VALUES = np.sin(np.arange(200.0))
DIVERGES = Experiment(
    dataset=Pairs(VALUES, 1e5 * VALUES), model=RNN(hidden=2), sampler=Sequential(2, 8), optimizer=SGD(10.0), epochs=3
)


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setattr(feed, "CHUNK_STEPS", 40)
    monkeypatch.setattr(Run, "plot", NoFigure)


def killed_before(monkeypatch, name, experiment, path):
    """Trains a run whose process is killed before it calls a function of `record`."""

    def crash(*args):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(record, name, crash)
        with pytest.raises(Crash):
            experiment.run(path, checkpoint_seconds=0)


AGAIN = {
    "run": lambda experiment, path: experiment.run(path / "seed-0"),
    "sweep": lambda experiment, path: sweep(experiment, {"seed": [0]}, path),
}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("name", ["_write_views", "add_files"])
def test_a_finished_run_is_completed(tmp_path, monkeypatch, again, name):
    sweep(TINY, {"seed": [1]}, tmp_path)
    run = tmp_path / "seed-0"
    killed_before(monkeypatch, name, TINY, run)
    assert (run / folder.PARAMS).exists()
    assert len([*(run / folder.CHECKPOINTS).iterdir()]) == 2
    assert folder.PARAMS not in read_manifest(run).files
    data = (run / folder.PARAMS).read_bytes()
    AGAIN[again](TINY, tmp_path)
    assert (run / folder.PARAMS).read_bytes() == data, "it was not trained again"
    assert len([*(run / folder.CHECKPOINTS).iterdir()]) == 1
    listed = {name for name in RESULTS if (run / name).exists()}
    assert {folder.SAMPLES, folder.HISTORY, folder.PARAMS, folder.METRICS} == listed
    assert listed <= read_manifest(run).files.keys()
    assert {line.state for line in verify(run)} == {OK}


def test_a_run_that_diverged_is_completed_by_its_sweep(tmp_path, monkeypatch):
    sweep(DIVERGES, {"seed": [1]}, tmp_path)
    killed_before(monkeypatch, "add_files", DIVERGES, tmp_path / "seed-0")
    sweep(DIVERGES, {"seed": [0, 1]}, tmp_path)
    assert Runs.open(tmp_path)["seed=0"].diverged
    for seed in (0, 1):
        listed = read_manifest(tmp_path / f"seed-{seed}").files
        assert {folder.DIVERGED, folder.PARAMS, folder.METRICS} <= listed.keys()
        assert folder.HISTORY not in listed


def test_the_mark_of_a_callback_is_in_the_manifest_after_a_kill(tmp_path, monkeypatch):
    def ends(run):
        return len(run.metrics) == 2

    def crash(*args):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(record, "add_files", crash)
        with pytest.raises(Crash):
            TINY.run(tmp_path / "run", checkpoint_seconds=0, callback=ends)
    assert (tmp_path / "run" / folder.STOPPED).exists()
    assert TINY.run(tmp_path / "run", callback=ends).stopped_at == 2
    assert folder.STOPPED in read_manifest(tmp_path / "run").files
    (tmp_path / "run" / folder.STOPPED).write_text("the callback ended training after epoch 1\n")
    with pytest.raises(Error, match=r"stopped\.txt") as caught:
        Run.open(tmp_path / "run")
    assert caught.value.exit_code == 4

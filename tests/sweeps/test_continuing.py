"""The same sweep with more epochs, seeds or given parameters."""

import dataclasses
import shutil

import jax
import pytest
from support.crash import contents
from support.quick import BASE
from support.tiny import FULL, changed, refused

from seqjax import Run, Runs
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import read_manifest, write_manifest
from seqjax.sweeps import side_by_side
from seqjax.sweeps.sweeping import sweep


def test_runs_that_stopped_early_have_the_number_of_epochs_that_is_asked_for(tmp_path):
    """All runs are of one experiment then, so that they can be compared."""
    noise = changed(FULL, epochs=3, stop_after=1)  # its first epoch is the best one
    assert [len(run.metrics) for run in sweep(noise, {"seed": [0]}, tmp_path).values()] == [2]
    for seeds in ([0], [0, 1]):
        made = sweep(changed(noise, epochs=5), {"seed": seeds}, tmp_path)
        opened = Runs.open(tmp_path)
        assert [run.experiment.epochs for run in opened.values()] == [5] * len(seeds)
        assert [run.metrics for run in opened.values()] == [run.metrics for run in made.values()]


def test_seeds_are_added_to_a_sweep_that_was_begun_without(tmp_path):
    """And the other way round. A run is never made twice, under the name with the seed and under that without it."""
    rates = {"optimizer.learning_rate": {"fast": 0.5, "slow": 0.1}}
    first = sweep(BASE, rates, tmp_path)
    begun = contents(tmp_path / "fast") | contents(tmp_path / "slow")
    more = sweep(BASE, {**rates, "seed": [0, 1]}, tmp_path)
    assert list(more) == [f"{variant}, seed={seed}" for variant in ("fast", "slow") for seed in range(2)]
    assert [more[f"{variant}, seed=0"].path for variant in ("fast", "slow")] == [run.path for run in first.values()]
    assert contents(tmp_path / "fast") | contents(tmp_path / "slow") == begun
    assert {*Runs.open(tmp_path).compare("train_loss")["runs"]} == {2}
    assert [*sweep(BASE, rates, tmp_path)] == ["fast", "slow"]
    before = contents(tmp_path)
    with refused("has a run 'fast' with the seed 0, and this one has 5\n.*--seeds 5", 2):
        sweep(dataclasses.replace(BASE, seed=5), rates, tmp_path)
    assert contents(tmp_path) == before
    sweep(BASE, {**rates, "seed": [7]}, tmp_path / "other")
    assert [run.path.name for run in sweep(dataclasses.replace(BASE, seed=7), rates, tmp_path / "other").values()] == [
        "fast-seed-7",
        "slow-seed-7",
    ]


@pytest.mark.parametrize("why", ["it has diverged", "the state of its optimizer is not kept"])
def test_no_run_continues_if_one_of_the_sweep_cannot(tmp_path, why):
    few = changed(FULL, epochs=1)
    sweep(few, {"seed": [0, 1]}, tmp_path)
    (_, last) = [run.path for run in Runs.open(tmp_path).values()]
    if why == "it has diverged":
        write_manifest(last, read_manifest(last)._replace(ended="diverged", note="diverged at update 27"))
    else:
        shutil.rmtree(last / folder.CHECKPOINTS)
    before = contents(tmp_path)
    with refused(rf"^{last} cannot be continued from 1 to 2 epochs.*{why}", 2):
        sweep(changed(few, epochs=2), {"seed": [0, 1]}, tmp_path)
    assert contents(tmp_path) == before
    assert [run.diverged for run in sweep(few, {"seed": [0, 1]}, tmp_path).values()] == [False, "diverged" in why]


def test_a_sweep_of_given_parameters_gets_another_seed(tmp_path):
    few = changed(FULL, epochs=1)
    params = few.run().params
    for seeds in ([0], [0, 1]):
        assert len(sweep(few, {"seed": seeds}, tmp_path, params=params)) == len(seeds)


def test_runs_that_start_from_another_run_are_not_trained_side_by_side(tmp_path, monkeypatch):
    """Where they are, each draws its own initial parameters."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    monkeypatch.setattr(side_by_side, "train_group", lambda *args: pytest.fail("trained side by side"))
    BASE.run(tmp_path / "first")
    later = dataclasses.replace(BASE, init_from=str(tmp_path / "first"))
    (run,) = sweep(later, {"seed": [0]}).values()
    assert run.metrics[0]["train_loss"] < Run.open(tmp_path / "first").metrics[0]["train_loss"]

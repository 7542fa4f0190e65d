"""Runs that are trained side by side equal the same runs trained alone."""

import contextlib
import importlib
from dataclasses import replace

import jax
import numpy as np
import pytest

from seqjax import Experiment, Run, Runs, Text
from seqjax.runs import checkpoint, record
from seqjax.runs.execute import execute_side_by_side
from seqjax.sweeps.sweeping import combine, sweep, varied_floats
from seqjax.training import feed
from seqjax_models import RNN
from seqjax_optimizers import SGD, Adam
from seqjax_samplers import Random, Sequential

BASE = Experiment(
    dataset=Text("the cat sat on the mat. " * 60),
    model=RNN(hidden=8),
    sampler=Sequential(batch_size=4, num_steps=10),
    optimizer=SGD(learning_rate=1.0, clip_norm=1.0),
    epochs=2,
)  # fmt: skip
AXES = {"optimizer.learning_rate": [0.5, 2.0], "seed": range(2)}


@pytest.fixture
def like_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def run_side_by_side(experiments, paths=(None, None)):
    return execute_side_by_side(experiments, paths, varied_floats(experiments), 30.0)


def assert_same(together: Run, alone: Run):
    for row, other in zip(together.metrics, alone.metrics, strict=True):
        for name in ("update", "tokens", "train_loss", "heldout_loss", "grad_norm", "learning_rate"):
            np.testing.assert_allclose(row[name], other[name], rtol=1e-5, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together.params, alone.params)


@pytest.mark.slow
def test_seeds_and_learning_rates_side_by_side_equal_each_alone(like_an_accelerator, tmp_path):
    runs = sweep(BASE, AXES, tmp_path)
    assert list(runs) == [
        "optimizer.learning_rate=0.5, seed=0", "optimizer.learning_rate=0.5, seed=1",
        "optimizer.learning_rate=2.0, seed=0", "optimizer.learning_rate=2.0, seed=1",
    ]  # fmt: skip
    for run in runs.values():
        assert_same(run, run.experiment.run(devices=1))
        assert Run.open(run.path).finished
    again = Runs.open(tmp_path)
    assert list(again) == list(runs)
    for name in runs:
        assert again[name].metrics == runs[name].metrics


@pytest.mark.slow
def test_the_epochs_of_several_chunks_equal_those_of_one(monkeypatch):
    experiments = [plan.experiment for plan in combine(BASE, {"seed": range(2)}).values()]
    whole = run_side_by_side(experiments)
    monkeypatch.setattr(feed, "CHUNK_STEPS", 2 * 4 * 10 * 3)
    for run, other in zip(run_side_by_side(experiments), whole, strict=True):
        assert_same(run, other)


@pytest.mark.slow
def test_a_run_that_diverges_leaves_the_others_alone():
    experiments = [plan.experiment for plan in combine(BASE, {"optimizer.learning_rate": [1e30, 0.5]}).values()]
    experiments = [replace(e, optimizer=SGD(e.optimizer.learning_rate)) for e in experiments]
    bad, good = run_side_by_side(experiments)
    assert not bad.finished
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(bad.params))
    assert_same(good, experiments[1].run(devices=1))


@pytest.mark.parametrize(
    ("others", "floats"),
    [
        ([{"seed": 3}], {}),
        ([{"optimizer": SGD(2.0, clip_norm=1.0)}], {"learning_rate": [1.0, 2.0]}),
        ([{"optimizer": SGD(1.0, clip_norm=2.0), "seed": 1}], {"clip_norm": [1.0, 2.0]}),
        ([{"optimizer": SGD(1.0)}], None),  # one that clips and one that does not
        ([{"optimizer": Adam(1.0)}], None),
        ([{"model": RNN(hidden=9)}], None),
        ([{"epochs": 3}], None),
    ],
)
def test_what_can_share_a_compiled_call(others, floats):
    assert varied_floats([BASE, *(replace(BASE, **other) for other in others)]) == floats


@pytest.mark.slow
def test_epochs_of_different_length_are_not_made_side_by_side(like_an_accelerator, monkeypatch):
    base = replace(BASE, sampler=Random(batch_size=4, num_steps=10), dataset=Text("abcdefgh " * 50), train=365)
    refuse = lambda *args: pytest.fail("their epochs differ in length")
    monkeypatch.setattr(importlib.import_module("seqjax.sweeps.sweeping"), "execute_side_by_side", refuse)
    runs = sweep(base, {"seed": range(4)})
    assert len({run.metrics[0]["update"] for run in runs.values()}) > 1
    assert all(run.finished for run in runs.values())


def test_a_signal_saves_all_of_them_and_they_go_on(monkeypatch, tmp_path):
    experiments = [plan.experiment for plan in combine(BASE, {"seed": range(2)}).values()]
    paths = [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setattr(record, "noticed", lambda _: contextlib.nullcontext(lambda: 143))
    with pytest.raises(SystemExit, match="143"):
        run_side_by_side(experiments, paths)
    monkeypatch.undo()
    for experiment, path in zip(experiments, paths, strict=True):
        assert not (path / "params.safetensors").exists()
        assert_same(experiment.run(path, devices=1), experiment.run(devices=1))


def test_a_signal_in_the_last_chunk_comes_when_they_are_finished(monkeypatch, tmp_path):
    experiments = [plan.experiment for plan in combine(replace(BASE, epochs=1), {"seed": range(2)}).values()]
    paths = [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setattr(record, "noticed", lambda _: contextlib.nullcontext(lambda: 143))
    with pytest.raises(SystemExit, match="143"):
        run_side_by_side(experiments, paths)
    for path in paths:
        assert Run.open(path).finished
        assert checkpoint.is_pruned(path)


@pytest.mark.slow
def test_runs_with_and_without_a_warm_up_have_states_of_their_own(like_an_accelerator, tmp_path):
    """Each can also be resumed alone from its checkpoint."""
    runs = sweep(BASE, {"optimizer.warmup": [0.0, 0.5, 0.25], "seed": range(2)}, tmp_path)
    for run in runs.values():
        assert_same(run, run.experiment.run(devices=1))
    optimizers = [replace(BASE.optimizer, warmup=share) for share in (0.0, 0.25, 0.5)]
    none, some, more = [replace(BASE, optimizer=optimizer) for optimizer in optimizers]
    assert varied_floats([none, some]) is None
    assert varied_floats([some, more]) == {"warmup": [0.25, 0.5]}

"""Runs that are trained side by side equal the same runs trained alone."""

import contextlib
from dataclasses import replace

import jax
import numpy as np
import pytest
from support.quick import BASE, CHUNKS

from seqjax import Run, Runs, Text
from seqjax.models import RNN
from seqjax.optimizers import SGD
from seqjax.runs import listen
from seqjax.runs.files.manifest import read_manifest
from seqjax.samplers import Random
from seqjax.sweeps import side_by_side
from seqjax.sweeps.launching.jobs import JobOptions
from seqjax.sweeps.planning import Planned
from seqjax.sweeps.side_by_side import run_side_by_side, train_group, varied_floats
from seqjax.sweeps.sweeping import sweep

PAIR = [replace(BASE, seed=1), replace(BASE, seed=2, optimizer=SGD(0.1, clip_norm=1.0))]
"""One compiled call trains both: they differ in the seed and in the learning rate."""


@pytest.fixture(scope="module")
def alone(small_chunks):
    """The runs of `PAIR`, each trained alone."""
    return [experiment.run() for experiment in PAIR]


@pytest.fixture
def like_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])


OPTIONS = JobOptions(devices=None, checkpoint_seconds=30.0, tracker=None)


def together(experiments, paths=(None, None)):
    return train_group(experiments, paths, varied_floats(experiments), OPTIONS)


def assert_same(made: Run, alone: Run):
    for row, other in zip(made.metrics, alone.metrics, strict=True):
        for name in ("update", "tokens", "train_loss", "heldout_loss", "grad_norm", "learning_rate"):
            np.testing.assert_allclose(row[name], other[name], rtol=1e-5, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), made.params, alone.params)


def test_seeds_and_learning_rates_side_by_side_equal_each_alone(alone):
    for made, one in zip(together(PAIR), alone, strict=True):
        assert_same(made, one)


def test_a_sweep_trains_new_runs_side_by_side(like_an_accelerator, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(side_by_side, "train_group", lambda *args: (made.append(args[0]), train_group(*args))[1])
    for seeds in ([1], [1, 2]):
        runs = sweep(BASE, {"optimizer.learning_rate": [0.5, 0.1], "seed": seeds}, tmp_path)
        assert [(e.optimizer.learning_rate, e.seed) for e in made.pop()] == [(0.5, seeds[-1]), (0.1, seeds[-1])]
        assert made == []
    assert list(runs) == [f"optimizer.learning_rate={rate}, seed={seed}" for rate in (0.5, 0.1) for seed in (1, 2)]
    opened = Runs.open(tmp_path)
    for name in runs:
        assert opened[name].metrics == runs[name].metrics


def test_a_run_that_diverges_leaves_the_others_alone(alone):
    bad, good = together([replace(BASE, optimizer=SGD(1e38, clip_norm=1.0)), PAIR[1]])
    assert bad.diverged
    assert not bad.finished
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(bad.params))
    assert_same(good, alone[1])


@pytest.mark.parametrize(
    ("others", "floats"),
    [
        ([{"seed": 3}], {}),
        ([{"optimizer": SGD(2.0, clip_norm=1.0)}], {"learning_rate": [0.5, 2.0]}),
        ([{"optimizer": SGD(0.5, clip_norm=2.0), "seed": 1}], {"clip_norm": [1.0, 2.0]}),
        ([{"optimizer": SGD(0.5)}], None),  # one that clips and one that does not
        ([{"optimizer": SGD(0.5, clip_norm=1.0, warmup=0.5)}], None),  # one that counts its updates
        ([{"model": RNN(hidden=9)}], None),
    ],
)
def test_what_can_share_a_compiled_call(others, floats):
    assert varied_floats([BASE, *(replace(BASE, **other) for other in others)]) == floats
    counts = [replace(BASE, optimizer=SGD(0.5, warmup=share)) for share in (0.5, 0.25)]
    assert varied_floats(counts) == {"warmup": [0.5, 0.25]}, "all of them count their updates"


def test_epochs_of_different_length_and_given_parameters_are_not_made_side_by_side(
    like_an_accelerator, monkeypatch, alone
):
    e = replace(BASE, sampler=Random(batch_size=4, num_steps=10), train=365, dataset=Text("abcdefgh " * 50))
    made = lambda *args: pytest.fail("they are made side by side")
    monkeypatch.setattr(side_by_side, "train_group", made)
    planned = {f"{seed}": Planned("", replace(e, seed=seed)) for seed in range(4)}
    assert run_side_by_side(planned, dict.fromkeys(planned), OPTIONS) == {}
    assert sweep(BASE, {"seed": [1, 2]}, params=alone[0].params).first.finished


@pytest.mark.parametrize("chunk", [1, 4 * CHUNKS])
def test_a_signal_saves_all_of_them_and_they_go_on(monkeypatch, tmp_path, alone, chunk):
    """In the last chunk it comes when they are finished. A chunk of two runs has half as many updates of each."""
    paths, taken, take = [tmp_path / "a", tmp_path / "b"], [], listen.Training.take
    with monkeypatch.context() as patch:
        patch.setattr(listen.Training, "take", lambda *args: (taken.append(args[0]), take(*args))[1])
        is_there = lambda _: contextlib.nullcontext(lambda: 143 if len(taken) >= len(paths) * chunk else None)
        patch.setattr(listen, "noticed", is_there)
        with pytest.raises(SystemExit, match="143"):
            together(PAIR, paths)
    for experiment, path, one in zip(PAIR, paths, alone, strict=True):
        manifest = read_manifest(path)
        assert manifest.ended == ("" if chunk == 1 else "finished")
        assert len(manifest.checkpoints) == 1
        assert_same(experiment.run(path, devices=1), one)

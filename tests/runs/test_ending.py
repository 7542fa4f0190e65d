"""Trainings that end before all epochs, and the parameters of the best epoch."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest
from seqjax.runs.binding import binding
from seqjax.runs.params_file import write_params
from support.crash import Crash, NoFigure, crash_after

import seqjax
from seqjax import Error, Experiment, Pairs, Run
from seqjax.runs.files import folder
from seqjax.runs.files.manifest import add_files
from seqjax.runs.settings import Scalars
from seqjax_models import RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Sequential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 2))
NOISE = Pairs(X, RNG.normal(size=120))
"""Nothing can be learned, so that the held-out loss is lowest after a few epochs."""
STOPS = Experiment(
    dataset=NOISE, train=60, heldout=60, model=RNN(hidden=8), sampler=Sequential(2, 10), optimizer=Adam(0.03),
    epochs=30, stop_after=3, keep="best",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_figure(monkeypatch):
    monkeypatch.setattr(Run, "plot", NoFigure)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def whole():
    """The same experiment, trained to its last epoch."""
    return dataclasses.replace(STOPS, stop_after=None).run()


def stop_by_hand(losses, patience):
    """The best epoch and the last one, from 1."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best + 1, epoch + 1


@pytest.mark.parametrize("patience", [1, 3, 29])
@pytest.mark.parametrize("where", ["memory", "folder"])
def test_training_stops_after_epochs_without_a_lower_held_out_loss(whole, tmp_path, patience, where):
    losses = whole.metric("heldout_loss").tolist()
    best, last = stop_by_hand(losses, patience)
    run = dataclasses.replace(STOPS, stop_after=patience).run(tmp_path / "run" if where == "folder" else None)
    assert run.finished
    assert run.metric("heldout_loss").tolist() == losses[:last]
    assert run.best_epoch == best
    assert bool(run.ending) == (last < 30)
    if last < 30:
        assert (
            run.ending == f"the held-out loss was lowest after epoch {best}, and training ended {patience} epochs later"
        )


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_the_parameters_of_the_best_epoch_are_kept_beside_the_last_ones(tmp_path, where):
    path = tmp_path / "run" if where == "folder" else None
    run = STOPS.run(path)
    best, last = (
        dataclasses.replace(STOPS, epochs=n, stop_after=None, keep="last").run()
        for n in (run.best_epoch, run.metrics[-1]["epoch"])
    )
    same(run.params, last.params)
    same(run.best_params, best.params)
    if path:
        opened = Run.open(path, which="best")
        best_epoch = run.best_epoch
        same(opened.params, best.params)
        assert opened.evaluate()["loss"] == min(run.metric("heldout_loss"))
        same(Run.open(path).params, last.params)
        assert f"which='best' of epoch {best_epoch}" in repr(opened)
        assert "best" not in repr(Run.open(path))


def test_asking_for_the_best_of_a_run_that_did_not_keep_it_is_an_error(tmp_path):
    run = dataclasses.replace(STOPS, keep="last").run(tmp_path / "run")
    start = dataclasses.replace(STOPS, init_from=str(run.path), init_which="best")
    for use in (lambda: run.best_params, lambda: Run.open(run.path, which="best"), start.run):
        with pytest.raises(Error, match=rf"the run {run.path} keeps .* train it with keep = 'best' \(--keep best\)"):
            use()


def test_an_unfinished_run_has_no_best_epoch_yet(tmp_path, monkeypatch):
    with crash_after(monkeypatch, 4):
        STOPS.run(tmp_path / "run", checkpoint_seconds=0)
    with pytest.raises(Error, match="its best epoch is not known yet"):
        Run.open(tmp_path / "run", which="best")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: re.sub(rb'(epoch\\": )\d', rb"\g<1>9", data)], ids=["cut", "epoch"]
)
def test_damaged_best_parameters_of_an_unfinished_run_are_exit_4(tmp_path, monkeypatch, damage):
    with crash_after(monkeypatch, 5):
        dataclasses.replace(STOPS, stop_after=None).run(tmp_path / "run", checkpoint_seconds=0)
    file = tmp_path / "run" / folder.BEST
    changed = damage(file.read_bytes())
    assert changed != file.read_bytes()
    file.write_bytes(changed)
    with pytest.raises(Error, match=r"best\.safetensors") as caught:
        dataclasses.replace(STOPS, stop_after=None).run(tmp_path / "run")
    assert caught.value.exit_code == 4
    assert file.read_bytes() == changed


def test_best_parameters_of_another_epoch_are_noticed(tmp_path):
    run = STOPS.run(tmp_path / "run")
    write_params(run.path, run.params, binding(run.path), folder.BEST, run.best_epoch + 1)
    add_files(run.path, folder.BEST)
    with pytest.raises(
        Error, match=f"after epoch {run.best_epoch + 1}, and not after epoch {run.best_epoch}"
    ) as caught:
        Run.open(run.path, which="best")
    assert caught.value.exit_code == 4


def test_epochs_between_evaluations_count(whole):
    """With an evaluation at each third epoch, patience is still counted in epochs."""
    run = dataclasses.replace(STOPS, evaluate_every=3, stop_after=4).run()
    losses = run.metric("heldout_loss")
    assert all(math.isnan(loss) == ((n + 1) % 3 > 0) for n, loss in enumerate(losses))
    assert run.best_epoch % 3 == 0
    assert len(losses) == run.best_epoch + 4


@pytest.mark.parametrize("fields", [{"stop_after": 2}, {"keep": "best"}])
def test_without_a_held_out_part_nothing_is_compared(fields):
    with pytest.raises(Error, match="hold a part out"):
        Scalars(heldout=0, **fields)
    with pytest.raises(Error, match=f"leave out: {next(iter(fields))}"):
        Experiment(model=seqjax.create("model", "ngram"), **fields)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_callback_sees_each_epoch_and_ends_training(tmp_path, where):
    path = tmp_path / "run" if where == "folder" else None
    experiment, seen = dataclasses.replace(STOPS, stop_after=None, keep="last"), []

    def callback(run):
        seen.append((run.metrics[-1]["epoch"], run.params))
        return run.metrics[-1]["epoch"] == 4

    run = experiment.run(path, callback=callback)
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert run.finished
    assert run.ending == "the callback ended training after epoch 4"
    for epoch, params in seen:  # they may be kept
        same(params, dataclasses.replace(experiment, epochs=epoch).run().params)
    if path:
        assert Run.open(path).finished
        assert experiment.run(path).metrics == run.metrics, "it is opened, and not trained again"


def test_a_callback_may_return_a_bool_of_numpy():
    run = dataclasses.replace(STOPS, epochs=3, stop_after=None).run(callback=lambda run: np.float32(1) < 2)
    assert run.ending == "the callback ended training after epoch 1"


def test_a_callback_that_returns_something_else_ends_nothing():
    run = dataclasses.replace(STOPS, epochs=3, stop_after=None).run(callback=lambda run: run.metrics[-1])
    assert len(run.metrics) == 3


def test_a_callback_that_is_no_function_is_refused_before_training(tmp_path):
    with pytest.raises(Error, match="callback = 3 is no function; pass one that takes the run"):
        STOPS.run(tmp_path / "run", callback=3)
    assert not (tmp_path / "run").exists()


def test_after_an_exception_of_a_callback_the_run_goes_on_from_there(tmp_path):
    def callback(run):
        raise Crash

    with pytest.raises(Crash):
        STOPS.run(tmp_path / "run", callback=callback)
    assert len(Run.open(tmp_path / "run").metrics) == 1
    assert STOPS.run(tmp_path / "run").metric("heldout_loss").tolist() == STOPS.run().metric("heldout_loss").tolist()

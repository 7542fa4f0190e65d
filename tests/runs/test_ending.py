"""Trainings that end before all epochs, and the parameters of the best epoch."""

import math
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from support.crash import Crash
from support.tiny import FULL, changed, refused

import seqjax
from seqjax import Experiment, Run, Text
from seqjax.errors import counted
from seqjax.models import NGram
from seqjax.optimizers import Adam
from seqjax.runs.settings import Scalars

STOPS = changed(FULL, optimizer=Adam(0.01, clip_norm=1.0), epochs=12, stop_after=3)
"""Nothing can be learned but by heart, so that the held-out loss is lowest after a few epochs."""


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def losses():
    """The held-out losses of the same experiment, trained to its last epoch."""
    return changed(STOPS, stop_after=None).run().metric("heldout_loss").tolist()


def stop_by_hand(losses, patience):
    """The best epoch and the last one, from 1."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            break
    return best + 1, epoch + 1


@pytest.mark.parametrize("patience", [1, 11])
def test_training_stops_after_epochs_without_a_lower_held_out_loss(losses, tmp_path, patience):
    best, last = stop_by_hand(losses, patience)
    assert 1 < best < last
    run = changed(STOPS, stop_after=patience).run(tmp_path / "run")
    assert run.finished
    assert run.metric("heldout_loss").tolist() == losses[:last]
    assert run.best_epoch == best
    later = counted(patience, "epoch")
    words = f"the held-out loss was lowest after epoch {best}, and training ended {later} later"
    assert run.ending == (words if last < 12 else "")
    assert Run.open(tmp_path / "run").ending == run.ending


def test_the_parameters_of_the_best_epoch_are_kept_beside_the_last_ones():
    run = STOPS.run()
    best, last = (
        changed(STOPS, epochs=n, stop_after=None, keep="last").run() for n in (run.best_epoch, len(run.metrics))
    )
    same(run.params, last.params)
    same(run.best_params, best.params)


def test_asking_for_the_best_of_a_run_that_did_not_keep_it_is_an_error(tmp_path):
    run = changed(FULL, keep="last", epochs=1).run(tmp_path / "run")
    start = changed(FULL, init_from=str(run.path), init_which="best")
    for use in (lambda: run.best_params, lambda: Run.open(run.path, which="best"), start.run):
        with refused(rf"the run {run.path} keeps .* train it with keep = 'best' \(--keep best\)", 2):
            use()


def test_epochs_between_evaluations_count():
    """With an evaluation at each third epoch, patience is still counted in epochs."""
    run = changed(STOPS, evaluate_every=3, stop_after=4).run()
    losses = run.metric("heldout_loss")
    assert all(math.isnan(loss) == ((n + 1) % 3 > 0) for n, loss in enumerate(losses))
    assert run.best_epoch % 3 == 0
    assert len(losses) == run.best_epoch + 4


@pytest.mark.parametrize("fields", [{"stop_after": 2}, {"keep": "best"}])
def test_without_a_held_out_part_nothing_is_compared(fields):
    with refused("cannot be made", 2) as caught:
        Scalars(heldout=0, **fields)
    assert "hold a part out" in caught.value.problems[0]
    with refused(f"leave out: {next(iter(fields))}", 2):
        Experiment(model=seqjax.create("model", "ngram"), **fields)


def test_a_callback_sees_each_epoch_and_ends_training(tmp_path):
    experiment, seen = changed(FULL, epochs=5, keep="last"), []

    def callback(run):
        seen.append((run.metrics[-1]["epoch"], run.params))
        return np.bool_(run.metrics[-1]["epoch"] == 3)

    run = experiment.run(tmp_path / "run", callback=callback)
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert (run.finished, run.stopped_at, run.ending) == (True, 3, "the callback ended training after epoch 3")
    same(seen[0][1], changed(experiment, epochs=1).run().params)  # they may be kept
    assert Run.open(run.path).ending == run.ending
    assert experiment.run(run.path).metrics == run.metrics, "it is opened, and not trained again"


def test_a_callback_that_returns_something_else_or_true_after_the_last_epoch_ends_nothing():
    for returned in (lambda run: run.metrics[-1], lambda run: len(run.metrics) == 2):
        run = FULL.run(callback=returned)
        assert (len(run.metrics), run.stopped_at, run.ending) == (2, None, "")


def test_after_an_exception_of_a_callback_the_run_continues_from_there(whole, tmp_path):
    def fails(run):
        raise Crash

    with pytest.raises(Crash):
        FULL.run(tmp_path / "run", callback=fails)
    assert len(Run.open(tmp_path / "run").metrics) == 1
    seen = []
    run = FULL.run(tmp_path / "run", callback=lambda run: seen.append(len(run.metrics)))
    assert seen == [2], "it is not called again for the epoch that is saved"
    same(run.params, whole.params)


@dataclass(frozen=True)
class Own(NGram):
    """A model in the file of the callbacks below, as in a script of a user."""


@pytest.mark.parametrize("fault", [KeyError("no such column"), SystemExit(3)], ids=repr)
def test_an_exception_of_a_callback_is_no_mistake_of_a_plugin_of_the_same_file(fault):
    def fails(run):
        raise fault

    with pytest.raises(type(fault)) as caught:
        Experiment(dataset=Text("abc" * 50), model=Own(order=1)).run(callback=fails)
    assert caught.value is fault

"""One and two devices make the same updates, randomness included."""

import numpy as np
import pytest
import strategies as planted
from checks import BOUND, SGD, check_devices, train
from oracle import B, T, case

import seqjax
from seqjax.train import init_train_state

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("sampler", ["random", "sequential"])
@pytest.mark.parametrize("name", seqjax.names("gradient"))
def test_two_devices_make_the_same_updates(name, sampler):
    check_devices(seqjax.create("gradient", name), sampler)


def test_two_devices_share_a_memory():
    check_devices(planted.Adapting(), "sequential")


def test_weights_sum_to_one_over_all_devices():
    _, row = train(planted.SumOfWeights(), "sequential", devices=2)
    assert abs(row["train_loss"] - 1) < BOUND


def test_every_update_and_every_seed_draws_anew():
    c, strategy = case("learned"), planted.NoiseAsLoss(keep_prob=0.5)
    same = np.zeros((5, B), np.int64)  # five times the same windows
    plan = seqjax.Plan(same, np.tile(np.array([0, T], np.int32), (5, B, 1)), same == 0)
    stream = seqjax.Stream(np.zeros((T, 2)), np.zeros((T, 1)), None)
    drawn = []
    for seed in (0, 1):
        state = init_train_state(c.problem, strategy, SGD, 5, B, seed, c.params)
        _, updates = seqjax.run_epoch(c.problem, strategy, SGD, state, stream, plan)
        drawn += updates["loss"].tolist()
    assert len(set(drawn)) == 10


@pytest.mark.parametrize("fault", [planted.Normalised(), planted.LocalRows(keep_prob=0.5)], ids=repr)
def test_planted_fault_is_seen(fault):
    with pytest.raises(AssertionError, match="worst relative error"):
        check_devices(fault, "sequential")

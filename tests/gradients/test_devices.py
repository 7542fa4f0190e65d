"""One and two devices make the same updates, randomness included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import strategies as planted
from support.checks import LEARNED, SGD, check_training_on_devices, stream, three_batches, train
from support.strategies import Full, Noisy

import seqjax
from seqjax.data import Stream
from seqjax.testing.compare import BOUND, assert_close
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.proofs.rows import check_devices
from seqjax.training import TrainingSetup, run_epoch
from seqjax.training.loop import init_train_state

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("sampler", ["sequential", pytest.param("random", marks=pytest.mark.slow)])
def test_two_devices_make_the_same_updates(sampler):
    check_training_on_devices(planted.Randomized(keep_prob=0.5), sampler)


@pytest.mark.slow
def test_two_devices_share_memory_and_the_randomness_of_a_model():
    check_training_on_devices(planted.Adapting(), "sequential", Noisy())


def loss_by_hand(params, carry, data, starts, scored, reset):
    """The mean loss of one batch of a plan and the states after it, by loops over rows and steps."""
    total, count, after = 0.0, 0, []
    for start, (first, last), is_reset, s in zip(starts, scored, reset, carry, strict=True):
        s = LEARNED.init_state(params, None) if is_reset else s
        for t in range(12):
            i = min(start + t, len(data.mask) - 1)
            s, output = LEARNED.step(params, s, jnp.asarray(data.inputs[i]))
            if first <= t < last and data.mask[i]:
                total, count = total + (output[0] - data.targets[i, 0]) ** 2, count + 1
        after.append(s)
    return total / count, after


def test_three_updates_by_hand():
    data, plan = stream(), three_batches("sequential").plan(stream().bounds, np.random.default_rng((0, 0)))
    setup = TrainingSetup(sampler=three_batches("sequential"), gradient=Full(), optimizer=SGD, epochs=1)
    params, carry = init_train_state(case("learned").problem, setup, 3).params, [None] * 4
    for batch in zip(*plan, strict=True):
        grads, carry = jax.grad(loss_by_hand, has_aux=True)(params, carry, data, *batch)
        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
    state, _ = train(Full(), "sequential", devices=2)
    carry = jax.tree.map(lambda *rows: jnp.stack(rows), *carry)
    assert_close((state.params, state.carry), (params, carry), "three updates")


def test_weights_sum_to_one_over_all_devices():
    _, row = train(planted.SumOfWeights(), "sequential", devices=2)
    assert abs(row["train_loss"] - 1) < BOUND


def test_every_update_and_every_seed_draws_anew():
    c, strategy = case("learned"), planted.NoiseAsLoss(keep_prob=0.5)
    same = np.zeros((5, B), np.int64)  # five equal batches
    plan = seqjax.Plan(same, np.tile(np.array([0, T], np.int32), (5, B, 1)), same == 0)
    stream, sampler = Stream(np.zeros((T, 2)), np.zeros((T, 1)), None), three_batches("sequential")
    drawn = []
    for seed in (0, 1):
        setup = TrainingSetup(sampler=sampler, gradient=strategy, optimizer=SGD, epochs=1, seed=seed)
        state = init_train_state(c.problem, setup, 5, c.params)
        _, updates = run_epoch(c.problem, strategy, SGD, state, stream, plan)
        drawn += updates["loss"].tolist()
    assert len(set(drawn)) == 10


@pytest.mark.parametrize(
    "fault", [planted.LocalRows(keep_prob=0.5), pytest.param(planted.Normalised(), marks=pytest.mark.slow)], ids=repr
)
def test_planted_fault_is_seen(fault):
    with pytest.raises(seqjax.Error, match="worst relative error"):
        check_devices(fault)
    if isinstance(fault, Full):
        with pytest.raises(seqjax.Error, match="worst relative error"):
            check_training_on_devices(fault, "sequential")

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
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.proofs.rows import check_devices
from seqjax.testing.quick_jit import quick_jit
from seqjax.training import TrainingSetup, run_epoch
from seqjax.training.initial import InitialState

pytestmark = pytest.mark.usefixtures("x64")

NOISE = planted.NoiseAsLoss(keep_prob=0.5)


def test_two_devices_draw_the_same_noise():
    check_training_on_devices(NOISE, "sequential")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["sequential", "random"])
def test_two_devices_make_the_same_updates(sampler):
    check_training_on_devices(planted.Randomized(keep_prob=0.5), sampler)


@pytest.mark.slow
def test_two_devices_share_memory_and_the_randomness_of_a_model():
    check_training_on_devices(planted.Adapting(), "sequential", Noisy())


@quick_jit
def by_hand(params, carry, inputs, targets, counted, reset):
    """The mean loss of one batch of a plan and the states after it, with the gradient by the parameters."""

    def loss(params):
        start = LEARNED.init_state(params, None)
        start = {name: jnp.where(reset.reshape(4, *[1] * start[name].ndim), start[name], carry[name]) for name in start}

        def body(state, step):
            x, y, counted = step
            state, output = jax.vmap(LEARNED.step, (None, 0, 0))(params, state, x)
            return state, jnp.sum(jnp.where(counted, (output[:, 0] - y[:, 0]) ** 2, 0))

        after, losses = jax.lax.scan(body, start, (inputs, targets, counted))
        return losses.sum() / jnp.sum(jnp.where(counted, 1.0, 0.0)), after

    return jax.grad(loss, has_aux=True)(params)


def test_three_updates_by_hand():
    """Two devices score unequal numbers of steps, and the weights of their losses sum to 1 together."""
    data, plan = stream(), three_batches("sequential").plan(stream().bounds, np.random.default_rng((0, 0)))
    setup = TrainingSetup(sampler=three_batches("sequential"), gradient=Full(), optimizer=SGD, epochs=1)
    params, carry = InitialState(case("learned").problem, setup, 3).compute().params, case("learned").state
    for starts, scored, reset in zip(*plan, strict=True):
        steps = np.arange(12)[:, None]
        at = np.minimum(starts + steps, len(data.mask) - 1)
        counted = (scored[:, 0] <= steps) & (steps < scored[:, 1]) & data.mask[at]
        grads, carry = by_hand(params, carry, data.inputs[at], data.targets[at], counted, reset)
        params = jax.tree.map(lambda p, g: np.asarray(p) - 0.5 * np.asarray(g), params, grads)
    state, _ = train(Full(), "sequential", devices=2)
    assert_close((state.params, state.carry), (params, carry), "three updates")


def test_every_update_and_every_seed_draws_anew():
    c = case("learned")
    same = np.zeros((5, B), np.int64)  # five equal batches
    plan = seqjax.Plan(same, np.tile(np.array([0, T], np.int32), (5, B, 1)), same == 0)
    data = Stream(np.zeros((T, 2)), np.zeros((T, 1)), None)
    run = quick_jit(lambda state: run_epoch(c.problem, NOISE, SGD, state, data, plan)[1]["loss"])
    drawn = []
    for seed in (0, 1):
        setup = TrainingSetup(sampler=three_batches("sequential"), gradient=NOISE, optimizer=SGD, epochs=1, seed=seed)
        drawn += run(InitialState(c.problem, setup, 5, c.params).compute()).tolist()
    assert len(set(drawn)) == 10


@pytest.mark.slow
@pytest.mark.parametrize("fault", [planted.LocalRows(keep_prob=0.5), planted.Normalised()], ids=repr)
def test_planted_fault_is_seen(fault):
    with pytest.raises(seqjax.Error, match="worst relative error"):
        check_devices(fault, ["small"])
    if isinstance(fault, Full):
        with pytest.raises(seqjax.Error, match="worst relative error"):
            check_training_on_devices(fault, "sequential")

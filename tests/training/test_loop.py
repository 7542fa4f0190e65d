import functools
import logging
import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.drawn import drawn_params

from seqjax import Error, Problem, Spec, Tokens, train
from seqjax.data import Stream
from seqjax.gradients import ARTBP, Certified, Dodge, Full, Randomized
from seqjax.models import MLP, RNN
from seqjax.optimizers import SGD, Adam
from seqjax.samplers import Sequential, Windows
from seqjax.testing.quick_jit import quick_jit
from seqjax.training import Optimizer, feed
from seqjax.training.optimizer import NUM_UPDATES, Builder, learning_rate, numbers_of

V, T, B = 5, 6, 4
SPEC = Spec(Tokens(V))
PROBLEM = Problem.of(RNN(hidden=3), SPEC)
SAMPLER = Sequential(batch_size=B, num_steps=T)
RANDOM = {
    "gradient": ARTBP(),
    "optimizer": Adam(learning_rate=0.05, clip_norm=0.1, schedule="cosine", warmup=0.3),
    "epochs": 4,
}
"""Options with which a key, a memory, and the state of an optimizer are carried."""
DEFAULTS = {"sampler": SAMPLER, "gradient": Full(), "optimizer": SGD(learning_rate=0.5), "epochs": 2}


def tokens(*lengths, masked=False):
    """Random tokens in documents of these lengths; masked: one in five is not scored, and neither is number 90."""
    rng, n = np.random.default_rng(0), sum(lengths)
    mask = (rng.random(n) < 0.8) & (np.arange(n) != 90) if masked else None
    return Stream(rng.integers(0, V, n), rng.integers(0, V, n), np.cumsum([0, *lengths]), mask)


def weights():
    """Parameters large enough for the state to matter."""
    return jax.device_put(drawn_params(PROBLEM.model, SPEC))


def train_twice(stream=None, **options):
    """The state after each epoch of a training, and its rows: two epochs of 8 updates by default."""
    epochs = list(train(PROBLEM, tokens(200) if stream is None else stream, **(DEFAULTS | options)))
    return [state for state, _ in epochs], [row for _, row in epochs]


def assert_same(a, b):
    """Bit for bit."""
    raw = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(raw(x), raw(y)), a, b)


@jax.jit
def loss_by_hand(params, h, inputs, targets, counts):
    """Loss, gradient and state of one window [T, B] from the equations of the chapter, step by step."""

    def loss(params):
        state, total = h, 0.0
        for x, y, count in zip(inputs, targets, counts, strict=True):
            layer = params["layer_0"]
            state = jnp.tanh(layer["W_xh"][x] + state @ layer["W_hh"] + layer["b_h"])
            p = jax.nn.softmax(state @ params["W_hq"] + params["b_q"])
            total -= jnp.sum(count * jnp.log(p[jnp.arange(B), y]))
        return total / jnp.maximum(counts.sum(), 1), state

    return jax.value_and_grad(loss, has_aux=True)(params)


def train_by_hand(params, stream, optimizer, epochs, seed=0):
    """`training` as a loop. Returns the parameters and (epoch, loss, tokens, gradient norm) of each update."""
    params, h, n, updates = jax.tree.map(np.asarray, params), np.zeros((B, 3)), len(stream.inputs), []
    for epoch in range(epochs):
        for starts, scored, reset in zip(
            *SAMPLER.plan(stream.bounds, np.random.default_rng((seed, epoch))), strict=True
        ):
            h = np.where(reset[:, None], 0, h)
            at = np.minimum(starts + np.arange(T)[:, None], n - 1)
            t = np.arange(T)[:, None]
            counts = ((scored[:, 0] <= t) & (t < scored[:, 1]) & stream.mask[at]).astype(float)
            (loss, h), grads = loss_by_hand(params, np.asarray(h), stream.inputs[at], stream.targets[at], counts)
            norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(grads)))
            updates.append((epoch, float(loss), counts.sum(), norm))
            rate = optimizer.learning_rate * min(1, optimizer.clip_norm / max(norm, 1e-300))
            params = jax.tree.map(lambda p, g, rate=rate: p - rate * np.asarray(g), params, grads)
    return params, np.array(updates)


def test_training_is_what_a_loop_by_hand_gives(x64):
    """Two epochs with several documents, a mask, a carried state, and windows that are partly or not at all scored."""
    stream, params = tokens(90, 1, 35, 60, masked=True), weights()
    optimizer = SGD(learning_rate=0.5, clip_norm=0.43)
    expected, updates = train_by_hand(params, stream, optimizer, epochs=2)
    assert 0 < (updates[:, 3] > optimizer.clip_norm).mean() < 1, "some updates are clipped, some are not"
    states, rows = train_twice(stream, optimizer=optimizer, params=params, devices=2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), states[-1].params, expected)
    for epoch, row in enumerate(rows):
        _, losses, counts, norms = updates[updates[:, 0] == epoch].T
        assert row["epoch"] == epoch + 1
        assert row["update"] == int(states[epoch].update) == (updates[:, 0] <= epoch).sum()
        assert row["tokens"] == updates[updates[:, 0] <= epoch, 2].sum()
        assert row["train_loss"] == pytest.approx((losses * counts).sum() / counts.sum(), abs=1e-12)
        assert row["grad_norm"] == pytest.approx(norms.mean(), abs=1e-12), "before clipping"
        assert row["learning_rate"] == optimizer.learning_rate


def test_a_row_has_what_is_documented():
    states, rows = train_twice()
    names = "epoch update tokens seconds compile_seconds train_loss grad_norm learning_rate tokens_per_second"
    assert [set(row) for row in rows] == [set(names.split())] * 2
    assert all(type(value) in (int, float) for row in rows for value in row.values())
    assert [row["epoch"] for row in rows] == [1, 2]
    seconds = [0.0, *(row["seconds"] for row in rows)]
    assert seconds == sorted(set(seconds))
    spent, read = np.diff(seconds), np.diff([0, *(row["tokens"] for row in rows)])
    np.testing.assert_allclose([row["tokens_per_second"] for row in rows], read / spent, rtol=1e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(states[-1].params)} == {np.dtype(np.float32)}


def test_a_raw_transformation_gives_what_the_plugin_gives():
    """Its learning rate is reported where optax keeps it in the state, and NaN elsewhere."""
    raw, (row, _) = train_twice(optimizer=optax.sgd(0.5))
    jax.tree.map(np.testing.assert_array_equal, raw[-1].params, train_twice()[0][-1].params)
    assert math.isnan(row["learning_rate"])
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(1.0, 0.0, 4))
    state, update = quick_jit(injected.init)(raw[-1].params), quick_jit(injected.update)
    for expected in (1.0, 1.0, 0.75):  # that of the last update, counted from 0
        assert learning_rate(state) == expected
        _, state = update(raw[-1].params, state)


def test_the_seed_draws_parameters_plans_and_edge_weights():
    options = RANDOM | {"epochs": 1}
    (first,), (again,), (other,) = (train_twice(**options, seed=seed)[0] for seed in (0, 0, 1))
    assert_same(first, again)
    assert not np.allclose(first.params["layer_0"]["W_hh"], other.params["layer_0"]["W_hh"])
    (first,), (other,) = (train_twice(**options, seed=seed, params=weights())[0] for seed in (0, 1))
    assert not np.allclose(first.params["layer_0"]["W_hh"], other.params["layer_0"]["W_hh"], atol=1e-4), (
        "from the same parameters"
    )


def test_resuming_from_a_yielded_state_gives_the_same_bits():
    """With the same devices; optimizer, key, carried state and memory are part of the state."""
    states, rows = train_twice(**RANDOM)
    resumed, more = train_twice(**RANDOM, state=states[1])
    assert [row["epoch"] for row in more] == [3, 4]
    for name in ("update", "train_loss", "grad_norm", "learning_rate"):
        assert [row[name] for row in more] == [row[name] for row in rows[2:]]
    assert_same(resumed[-1], states[-1])
    assert train_twice(**RANDOM, state=states[-1]) == ([], []), "nothing is left to do"


@pytest.mark.slow
def test_a_stream_may_live_on_the_device_and_have_any_integer_type():
    stream = tokens(200)
    moved = stream._replace(inputs=jnp.asarray(stream.inputs, jnp.int16), targets=stream.targets.astype(np.uint8))
    assert_same(train_twice(moved)[0], train_twice(stream)[0])


def test_no_state_that_the_caller_has_is_donated():
    """Neither the parameters and the state that were given, nor the states that were yielded."""
    params = weights()
    kept = [state for state, _ in train(PROBLEM, tokens(200), **DEFAULTS, params=params)]
    states, _ = train_twice(params=weights())
    train_twice(state=kept[0])
    assert_same((params, kept), (weights(), states))


def test_the_precision_of_the_computation_can_be_chosen():
    half = Problem.of(RNN(hidden=3), SPEC, precision="bfloat16")
    expected, rows = [list(column) for column in zip(*train(half, tokens(200), **DEFAULTS), strict=True)]
    states, same = train_twice(precision="bfloat16")
    assert_same(states, expected)
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in same]
    assert np.any(np.asarray(states[-1].params["W_hq"]) != train_twice()[0][-1].params["W_hq"])
    with pytest.raises(Error, match="precision = 'half' must be one of: float32, bfloat16"):
        train_twice(precision="half")


@pytest.mark.parametrize(
    "gradient", [Full(), Dodge(), pytest.param(Certified(), marks=pytest.mark.slow)], ids=lambda g: type(g).__name__
)
def test_a_strategy_that_does_not_round_trains_in_float32(gradient):
    """The bits are those of float32, or not, as its `rounds` says."""
    low, exact = (train_twice(gradient=gradient, precision=p)[0][-1].params["W_hq"] for p in ("bfloat16", "float32"))
    assert gradient.rounds == isinstance(gradient, Full | Certified)
    assert gradient.rounds != np.array_equal(low, exact)


@dataclass(frozen=True)
class Lagged(RNN):
    """Does not score the first outputs of a sequence."""

    warmup: ClassVar[int] = 4


def test_the_warmup_of_the_model_is_not_scored():
    ((_, row),) = train(Problem.of(Lagged(hidden=3), SPEC), tokens(100), **DEFAULTS | {"epochs": 1})
    assert row["tokens"] == B * (T * row["update"] - 4), "a carried state is past its warm-up"


def linear(params, state, x):
    """A scan body without a model: a leaky sum that predicts a number."""
    value, target = x
    state = params["a"] * state + params["b"] * value
    return state, jnp.square(state - target)


def swapped(params, state, x):
    return params["a"] * x[0], state


def zero(params, key=None):
    return jnp.zeros(())


FOREIGN = Problem(linear, zero)
START = {"a": np.float32(0.0), "b": np.float32(0.0)}


def filtered(n=400, seed=0):
    """Random numbers, and their leaky sums with a = 0.5, b = 2."""
    values = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    sums = [0.0]
    for value in values:
        sums.append(0.5 * sums[-1] + 2 * value)
    return Stream(values, np.array(sums[1:], np.float32), np.array([0, n]))


def train_foreign(stream, problem=FOREIGN, **options):
    defaults = {"sampler": SAMPLER, "gradient": Full(), "optimizer": SGD(learning_rate=0.1), "epochs": 5}
    return train(problem, stream, **(defaults | {"params": START} | options))


def test_a_scan_body_without_a_model_trains():
    *_, (state, row) = train_foreign(filtered())
    # the state is zero where a row starts, so a little of the loss stays
    assert row["train_loss"] < 0.1
    assert state.params["a"] == pytest.approx(0.5, abs=0.05)
    assert state.params["b"] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("problem", "params", "say"), [(FOREIGN, None, "params="), (Problem(linear), START, r"Problem\(step, init_state\)")]
)
def test_a_problem_without_initial_values_is_an_error(problem, params, say):
    with pytest.raises(Error, match=say) as caught:
        next(train_foreign(filtered(), problem, params=params))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "say"),
    [
        ({"gradient": Full}, "instance of a strategy, such as Full"),
        ({"gradient": type("Mine", (Full,), {"claim": None})()}, "gradient Mine: claim: the class does not declare it"),
        ({"sampler": Sequential}, "instance of a sampler"),
        ({"optimizer": optax.adam}, "instance of an optimizer"),
        ({"problem": linear}, r"takes a problem, such as Problem\(step, init_state\)"),
        ({"stream": (np.zeros((9, 2)), np.zeros(9))}, "seqjax.data.Stream"),
        ({"params": {"a": np.float32(0.1), "b": np.int32(2)}}, r"params\['b'\] is int32"),
        ({"problem": Problem(swapped, lambda params, key=None: jnp.zeros(2))}, r"Return \(state, loss\)"),
    ],
)
def test_training_takes_no_arguments_of_another_type(options, say):
    with pytest.raises(Error, match=say):
        train_foreign(**{"stream": filtered()} | options)


@pytest.mark.parametrize("devices", [0, 3, 8])
def test_devices_must_exist_and_divide_the_batch(devices):
    with pytest.raises(Error, match=f"devices = {devices} must be a whole number that divides") as caught:
        train_foreign(filtered(), devices=devices)
    assert caught.value.exit_code == 2


@functools.cache
def two_epochs():
    """The state after each of two epochs, and their rows."""
    return [*zip(*train_foreign(filtered(), epochs=2), strict=True)]


def named_update(fault):
    return int(str(fault).partition("diverged at update ")[2].split()[0])


def test_too_large_a_learning_rate_stops_with_the_last_good_state():
    with pytest.raises(Error, match="diverged") as caught:
        train_twice(optimizer=SGD(learning_rate=1e38))
    assert caught.value.exit_code == 3
    state = caught.value.state
    assert named_update(caught.value) == int(state.update) + 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.carry)))
    for part in ("smaller learning rate", "1e+38", "--optimizer.clip-norm"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("bad", "epoch", "batch"), [(np.nan, 0, 0), (np.inf, 0, 3), (np.nan, 1, 0)])
def test_the_update_that_is_not_finite_is_named_and_training_goes_on_from_the_state_before_it(bad, epoch, batch):
    """One target of a known batch is not finite. With repaired data no update is made twice."""
    stream, (after, rows) = filtered(), two_epochs()
    states = [None, *after]
    damaged = stream._replace(targets=stream.targets.copy())
    plan = SAMPLER.plan(stream.bounds, np.random.default_rng((0, epoch)))
    damaged.targets[plan.starts[batch, 1] + 2] = bad
    before = epoch * rows[0]["update"] + batch
    with pytest.raises(Error, match=f"epoch {epoch + 1}") as caught:
        list(train_foreign(damaged, epochs=2, state=states[epoch]))
    assert caught.value.exit_code == 3
    assert (named_update(caught.value), int(caught.value.state.update)) == (before + 1, before)
    if batch == 0:
        kept = (caught.value.state, states[epoch]) if epoch else (caught.value.state.params, START)
        assert_same(*kept)
    *_, (state, row) = train_foreign(stream, epochs=2, state=caught.value.state)
    assert (row["update"], row["epoch"]) == (rows[1]["update"], 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.params, states[-1].params)


@dataclass(frozen=True)
class Counting(RNN):
    """Counts how often its cell is traced."""

    traces: ClassVar[list] = []

    def cell(self, u, v, state):
        self.traces.append(u)
        return super().cell(u, v, state)


def test_an_epoch_compiles_once_and_an_equal_experiment_not_again(caplog, monkeypatch):
    """Chunks of 3, 3 and 2 batches share a compilation; new but equal plugins, and another seed, share it too. So do
    other numbers of epochs, on which the schedule depends, and other numbers of the optimizer."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 3 * B * T)
    stream = tokens(200)

    def compiled(epochs=6, **numbers):
        """How often an epoch was compiled, and how often the cell was traced."""
        caplog.clear()
        Counting.traces.clear()
        problem = Problem.of(Counting(hidden=3), Spec(Tokens(V)))
        optimizer = SGD(**({"learning_rate": 0.5, "clip_norm": 1.0, "schedule": "cosine"} | numbers))
        options = {"sampler": Sequential(B, T), "gradient": Randomized(), "optimizer": optimizer}
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            assert len(list(train(problem, stream, epochs=epochs, **options))) == epochs
        messages = [record.getMessage() for record in caplog.records]
        return sum("Compiling" in m and "_epoch" in m for m in messages), len(Counting.traces)

    compilations, traces = compiled()
    assert compilations == 1
    assert 0 < traces <= 2
    assert compiled() == (0, 0)
    assert compiled(epochs=7, learning_rate=0.1, clip_norm=2.0)[0] == 0


@dataclass(frozen=True)
class Stepwise(Optimizer):
    """Reads the number of updates in Python."""

    learning_rate: float = 0.1

    def build(self, num_updates):
        return optax.sgd(self.learning_rate / (2 if num_updates < 5 else 1))


def test_numbers_that_an_optimizer_reads_in_python_are_constants():
    params = {"w": np.ones(3, np.float32)}
    assert numbers_of(Stepwise(), 10, params) == {"learning_rate": 0.1}
    every = {NUM_UPDATES: 10, "learning_rate": 0.1, "clip_norm": 1.0}
    assert numbers_of(SGD(clip_norm=1.0), 10, params) == every
    assert numbers_of(SGD(clip_norm=1.0, warmup=0.5), 10, params) == every | {"warmup": 0.5}


@dataclass(frozen=True)
class Until(Optimizer):
    """Has a field with the name of the argument of `build`."""

    num_updates: int
    learning_rate: float = 0.1

    def build(self, num_updates):
        return optax.sgd(self.learning_rate * self.num_updates / num_updates)


def test_a_field_may_have_the_name_of_the_number_of_updates():
    optimizer, params = Until(num_updates=7), {"w": np.ones(3, np.float32)}
    numbers = numbers_of(optimizer, 2, params)
    assert numbers == {NUM_UPDATES: 2, "learning_rate": 0.1}
    tx = Builder.of(optimizer, 2, numbers).build(numbers)
    updates, _ = tx.update(params, tx.init(params))
    np.testing.assert_allclose(updates["w"], -0.35)


def test_numbers_as_arguments_give_the_updates_of_optax():
    """The same steps with the transformation that has all numbers as constants."""
    states, rows = train_twice(**RANDOM)
    expected, _ = train_twice(**RANDOM | {"optimizer": RANDOM["optimizer"].build(rows[-1]["update"])})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), states[-1].params, expected[-1].params
    )


@pytest.mark.parametrize(
    ("warmup", "num_steps", "mask", "say"),
    [
        (8, 4, None, "first 8 outputs .*num_steps = 4[^$]*fewer --model.lags"),
        (3, 4, [True, True, True, False] * 10, "first 3 outputs"),
        (3, 4, [False, False, False, True] * 10, None),
        (0, 4, [False] * 40, "mask of the training part is False everywhere"),
    ],
)
def test_training_on_nothing_is_an_error(warmup, num_steps, mask, say):
    """All windows start with a reset, after which the first `warmup` steps are not scored."""
    problem = Problem.of(MLP(lags=warmup + 1, hidden=2), SPEC)
    stream = tokens(40)._replace(mask=mask and np.array(mask))
    sampler = Windows(1, num_steps, stride=num_steps)
    options = {"sampler": sampler, "gradient": Full(), "optimizer": SGD(0.1), "epochs": 1}
    if say is None:
        train(problem, stream, **options)
        return
    with pytest.raises(Error, match=f"nothing is scored: .*{say}") as caught:
        train(problem, stream, **options)
    assert caught.value.exit_code == 2

"""`Learner` against `train` with an update at every step, and what a stream that is interrupted needs."""

import functools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.cells import Started

import seqjax as sj
from seqjax.array_files.arrays import save_arrays
from seqjax.data import Stream
from seqjax.gradients import (
    DNI,
    RTRL,
    SKRTRL,
    UORO,
    Certified,
    Directional,
    Dodge,
    Forward,
    Full,
    Immediate,
    Last,
    Layerwise,
    Only,
    Rolling,
    Sliding,
    SnAp,
    Truncated,
)
from seqjax.models import GRU, LRU, MLP, RNN
from seqjax.optimizers import Adam
from seqjax.plugin import entries
from seqjax.plugin.registry import load, name_of
from seqjax.samplers import InOrder
from seqjax.testing.compare import assert_close

VALUES = sj.Spec(sj.Values(1))
SERIES = np.sin(0.3 * np.arange(400, dtype=np.float32))[:, None]


@functools.cache
def make(gradient=None, model=None, rows=None, optimizer=None):
    """The learner of these parts; one of each, since JAX compiles the functions of each learner."""
    problem = (model or RNN(hidden=3)).problem(VALUES)
    return sj.Learner(problem, gradient or RTRL(), optimizer or optax.adam(0.01), rows)


def on_device(tree):
    """Arrays with the same numbers in other buffers."""
    return jax.device_put(jax.tree.map(np.array, tree))


def follow(learner, state, first, last):
    for t in range(first, last):
        state, _ = learner.update(state, SERIES[t], SERIES[t + 1])
    return state


def as_numpy(state):
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf), state)


def trained(learner, steps=40):
    """The state after so many updates, and the row of the epoch, by `train`."""
    stream = Stream(SERIES[:steps], SERIES[1 : steps + 1], bounds=[0, steps])
    parts = {"sampler": InOrder(num_steps=1), "gradient": learner.gradient, "optimizer": learner.optimizer}
    [last] = sj.train(learner.problem, stream, **parts, epochs=1)
    return last


@pytest.mark.parametrize(
    ("gradient", "model"),
    [
        (UORO(), Started(hidden=3)),
        pytest.param(RTRL(), Started(hidden=3), marks=pytest.mark.slow),
        *(
            pytest.param(each, RNN(hidden=3), marks=pytest.mark.slow)
            for each in (RTRL(), UORO(), DNI(), SKRTRL(rank=1))
        ),
    ],
    ids=lambda part: type(part).__name__,
)
def test_the_updates_are_those_of_train(gradient, model):
    """What the strategy measures after the last update is what a run reports, by the same names."""
    learner = make(gradient, model)
    losses, state = [], learner.init(jax.random.key(0))
    for t in range(40):
        state, metrics = learner.update(state, SERIES[t], SERIES[t + 1])
        losses.append(float(metrics["loss"]))
    after, row = trained(learner)
    assert int(state.step) == row["update"] == 40
    # XLA fuses the arithmetic of `adam` in another way in the loop of `train`.
    assert_close(state.params, after.params, "the parameters", bound=1e-5)
    assert np.mean(losses) == pytest.approx(row["train_loss"], rel=1e-4)
    assert metrics.keys() == {"loss", "grad_norm", "outputs", *gradient.metric_names}
    for name in gradient.metric_names:
        assert float(metrics[name]) == pytest.approx(row[name], rel=1e-4)
        assert float(metrics[name]) > 0


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    "gradient", [RTRL(), *(pytest.param(g, marks=pytest.mark.slow) for g in (Rolling(steps=4), SnAp()))]
)
def test_with_plain_gradient_descent_the_updates_have_the_bits_of_train(gradient):
    learner = make(gradient, GRU(hidden=5), optimizer=optax.sgd(0.125))
    state = follow(learner, learner.init(jax.random.key(0)), 0, 40)
    assert_close(as_numpy(state).params, as_numpy(trained(learner)[0]).params, "the parameters", bound=0)


def test_it_learns_to_predict_a_sine_wave():
    learner = make(Layerwise(), LRU(hidden=8))
    state, losses = learner.init(jax.random.key(1)), []
    for t in range(399):
        state, metrics = learner.update(state, SERIES[t], SERIES[t + 1])
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-50:]) < 0.02 * np.mean(losses[:50])


def test_it_is_compiled_once_and_its_state_is_donated():
    learner = make(optimizer=optax.adam(0.01))
    before = sj.Learner._update._cache_size()
    state = learner.init(jax.random.key(0))
    new, _ = learner.update(state, SERIES[0], SERIES[1])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.carry, state.memory)))
    follow(learner, new, 1, 4)
    assert sj.Learner._update._cache_size() == before + 1


def test_parameters_that_are_given_are_not_donated():
    learner = make()
    params = on_device(learner.init(jax.random.key(3)).params)
    state = learner.init(jax.random.key(0), params)
    follow(learner, state, 0, 2)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_rows_are_averaged_and_reset_one_by_one():
    learner, single = make(rows=2), make()
    state = learner.init(jax.random.key(0))
    params = on_device(state.params)
    for t in range(3):
        reset = np.array([False, t == 2])
        last, metrics = learner.update(state, SERIES[[t, t + 7]], SERIES[[t + 1, t + 8]], reset=reset)
        state = last._replace(params=on_device(params))
    # Row 0 has read three steps; row 1 begins with the third one.
    losses = []
    for steps in ([0, 1, 2], [9]):
        one = single.init(jax.random.key(0), params)
        for t in steps:
            new, found = single.update(one, SERIES[t], SERIES[t + 1])
            one = new._replace(params=on_device(params))
        losses.append(float(found["loss"]))
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_problem_without_a_model():
    def step(w, s, x):
        s = 0.5 * s + w * x
        return s, (s - 1.0) ** 2

    learner = sj.Learner(sj.Problem(step, lambda w, key=None: 0.0), RTRL(), optax.sgd(0.1))
    before = sj.Learner._update._cache_size()
    state = learner.init(jax.random.key(0), jnp.array(0.0))
    for _ in range(200):
        state, metrics = learner.update(state, 1.0)
    assert float(metrics["loss"]) < 1e-4
    assert float(state.params) == pytest.approx(0.5, abs=0.01)
    assert sj.Learner._update._cache_size() == before + 1
    with pytest.raises(sj.Error, match="has no initial parameters: pass params="):
        learner.init(jax.random.key(0))
    several = replace(learner, rows=3)
    with pytest.raises(sj.Error, match=r"with rows=3, all arrays .* a first axis of 3, but one is float32\[2\]"):
        several.update(several.init(jax.random.key(0), jnp.array(0.0)), jnp.ones(2))


def test_a_saved_stream_continues_with_the_same_bits(tmp_path):
    learner, file = make(UORO(), Started(hidden=3)), tmp_path / "state.safetensors"
    whole = as_numpy(follow(learner, learner.init(jax.random.key(5)), 0, 60))
    half = follow(learner, learner.init(jax.random.key(5)), 0, 25)
    learner.save(file, half)
    learner.save(file, half)  # it replaces its own file
    resumed = as_numpy(follow(learner, replace(learner).load(file), 25, 60))
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


def test_files_that_are_not_its_own_are_refused(tmp_path):
    learner, file = make(), tmp_path / "state.safetensors"
    state = learner.init(jax.random.key(0))
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(sj.Error, match="exists, and is another kind of file"):
        learner.save(other, state)
    with pytest.raises(sj.Error, match="is damaged, or another version"):
        learner.load(other)
    with pytest.raises(sj.Error, match="is missing"):
        learner.load(file)
    learner.save(file, state)
    with pytest.raises(sj.Error, match="has the state of another learner, with another problem: params/"):
        make(model=RNN(hidden=4)).load(file)


def test_wrong_arguments_are_refused():
    problem = RNN(hidden=3).problem(VALUES)
    for arguments, message in [
        ((RNN(hidden=3), Full(), optax.sgd(0.1)), "Learner takes a problem"),
        ((problem, RTRL, optax.sgd(0.1)), "Learner takes an instance of a strategy"),
        ((problem, RTRL(), Adam()), r"pass an optax transformation.*optimizer.build\(num_updates\)"),
        ((problem, RTRL(), optax.sgd(0.1), 0), "rows"),
        ((MLP(lags=3).problem(VALUES), RTRL(), optax.sgd(0.1)), "the first 2 outputs of the model are a warm-up"),
    ]:
        with pytest.raises(sj.Error, match=message):
            sj.Learner(*arguments)


ONE_STEP = ("immediate", "forward", "directional", "es")
"""The built-in strategies of the window that a learner takes with all values of their fields."""
VARIANTS = {
    Truncated(steps=1): True,
    Truncated(steps=2): False,
    Last(steps=1): True,
    Last(steps=2): False,
    Sliding(steps=1): True,
    Sliding(steps=2): False,
    Certified(Truncated(steps=1)): True,
    Certified(Forward()): True,
    Certified(Full()): False,
    Only(Truncated(steps=1), leaves=("h",)): True,
    Certified(Only(Truncated(steps=2))): False,
    Dodge(Truncated(steps=1)): False,
}
"""Strategies whose fields decide whether a learner takes them."""


def is_taken(gradient):
    try:
        make(gradient)
    except sj.Error:
        return False
    return True


def test_of_the_strategies_of_the_window_those_of_one_step_are_taken():
    """All built-in ones are decided: with their default fields, and with the fields that matter."""
    built_in = [load(entry)() for entry in entries("gradient") if entry.distribution == "seqjax"]
    assert {name_of(each) for each in built_in if is_taken(each)} == {
        *ONE_STEP,
        "last",  # its default is one step
        *(name_of(each) for each in built_in if each.of == "history"),
    }
    assert {each: is_taken(each) for each in VARIANTS} == VARIANTS
    with pytest.raises(sj.Error, match=r"truncated steps=8 is(.|\n)*Truncated\(steps=1\).*InOrder\(num_steps=L\)"):
        make(Truncated(steps=8))


@pytest.mark.slow
def test_the_exact_strategies_of_one_step_agree():
    strategies = Truncated(steps=1), Sliding(steps=1), Immediate(), Directional()
    first, *others = (
        as_numpy(follow(each, each.init(jax.random.key(0)), 0, 5)).params for each in map(make, strategies)
    )
    for other in others:
        assert_close(other, first, "the parameters", bound=1e-5)


def test_a_strategy_of_another_author_is_taken_if_it_is_of_the_history_or_says_so():
    @dataclass(frozen=True)
    class Half(sj.WeightedEdges):
        claim = "biased"

    @dataclass(frozen=True)
    class OfOneStep(Half):
        for_one_step = True

    @dataclass(frozen=True)
    class OfTheHistory(sj.SequenceGradient):
        claim, of = "biased", "history"

    assert [is_taken(each()) for each in (Half, OfOneStep, OfTheHistory)] == [False, True, True]


STREAM = """
import sys
from pathlib import Path
import jax, numpy as np, optax
import seqjax as sj
from seqjax.gradients import UORO, Rolling
from seqjax.models import RNN

series = np.sin(0.3 * np.arange(4001, dtype=np.float32))[:, None]
problem = RNN(hidden=3).problem(sj.Spec(sj.Values(1)))
noisy = sj.Learner(problem, UORO(), optax.adam(0.01))
traced = sj.Learner(problem, Rolling(steps=4), optax.chain(sj.eligibility(0.9), optax.adam(0.01)))


def with_noise(state, t):
    return noisy.update(state, series[t], series[t + 1])[0]


def with_a_trace(state, t):
    error = series[t + 1] - traced.output(state, series[t])
    grads, state = traced.gradients(state, series[t], cotangents=np.ones(1, np.float32))
    return traced.apply(state, grads, delta=-error[0], reset=t % 50 == 0)


learner, step = {"noise": (noisy, with_noise), "trace": (traced, with_a_trace)}[sys.argv[1]]
file = Path(sys.argv[2])
state = learner.load(file) if file.exists() else learner.init(jax.random.key(0))
for t in range(int(state.step), 4000):
    state = step(state, t)
    if (t + 1) % 10 == 0:
        learner.save(file, state)
        print("saved", int(state.step), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["noise", "trace"])
def test_a_stream_that_is_killed_ten_times_ends_with_the_same_bits(stream, tmp_path):
    def start(name):
        command = [sys.executable, "-c", STREAM, stream, str(tmp_path / name)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)

    with start("whole") as process:
        assert process.communicate()[0].splitlines() == [f"saved {step}" for step in range(10, 4001, 10)]
    steps = []
    for saves in np.random.default_rng(0).integers(1, 30, 10):
        with start("killed") as process:
            steps.extend(int(process.stdout.readline().split()[1]) for _ in range(saves))
            os.kill(process.pid, signal.SIGKILL)
    # A process may have saved once more than was read before it was killed.
    assert steps == sorted({*steps}), "each process goes on from a save of the one before"
    assert steps[-1] < 4000
    with start("killed") as process:
        process.communicate()
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "whole"}, "a save removes what killed ones left"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda l, s: l.update(s), "a model reads an input and a target"),
        (lambda l, s: l.update(s, SERIES[0]), r"an input and a target: state, x, y, not 1 argument after the state"),
        (
            lambda l, s: l.update(s, SERIES[0], SERIES[0, 0]),
            r"y must be float\[1\] for Values\(dim=1\), not float32\[\]",
        ),
        (lambda l, s: l.update(s, 1.0, SERIES[0]), r"x must be float\[1\]"),
        (lambda l, s: l.update(s, np.array([1]), SERIES[0]), r"x must be float\[1\] .* not int"),
        (lambda l, s: l.update(s, SERIES[0], SERIES[1], reset=1), r"reset must be bool\[\], not int32"),
        (lambda l, s: l.update(s, SERIES[0], SERIES[1], reset="no"), "'no' is neither a number nor an array"),
        (lambda l, s: l.update(s, "SERIES", SERIES[1]), "'SERIES' is neither a number nor an array"),
        (lambda l, s: l.update((1,), SERIES[0], SERIES[1]), "pass the state that init or update returned"),
        (lambda l, s: l.save(s, "file"), "Learner.save: state"),
        (lambda l, s: l.init(0), "pass a key, such as"),
        (lambda l, s: l.init(jax.random.PRNGKey(0)), "must be one typed key"),
    ],
)
def test_a_wrong_call_says_what_to_pass(call, message):
    learner = make()
    with pytest.raises(sj.Error, match=message):
        call(learner, learner.init(jax.random.key(0)))


STRUCTURE = "another optimizer, whose opt_state has another structure"
OTHERS = {
    "another optimizer: opt_state/0/count is missing, and in this learner it is": {"optimizer": optax.sgd(0.1)},
    STRUCTURE: {"optimizer": optax.sgd(0.1), "own": {"optimizer": optax.chain(optax.sgd(0.1), optax.clip(1.0))}},
    "another strategy: memory/rows/0/0 is missing, and in this learner it is": {
        "gradient": Truncated(steps=1),
        "in_file": "the strategy truncated steps=1, and this one has rtrl",
    },
    "2 rows, and this one has 1": {"rows": 2},
    "1 row, and this one has 2": {"own": {"rows": 2}},
    r"another problem: params/W_hq is of shape \[4, 1\], and in this learner it is of shape \[3, 1\]": {
        "model": RNN(hidden=4),
        "in_file": r"another problem: params/W_hq is float32\[4, 1\], and in this learner it is float32\[3, 1\]",
    },
}
"""What the errors say -> the learner whose state is passed, and this one: what it differs in from `make()`."""


@pytest.mark.parametrize("message", OTHERS)
def test_the_state_of_another_learner_is_refused(message, tmp_path):
    options, file = dict(OTHERS[message]), tmp_path / "state"
    in_file = options.pop("in_file", message)
    learner, other = make(**options.pop("own", {})), make(**options)
    state = other.init(jax.random.key(0))
    sample = SERIES[0] if learner.rows is None else SERIES[: learner.rows]
    with pytest.raises(sj.Error, match=f"Learner.update: the state is that of another learner, with {message}"):
        learner.update(state, sample, sample)
    with pytest.raises(sj.Error, match=f"Learner.save: the state is that of another learner, with {message}"):
        learner.save(file, state)
    assert not file.exists()
    other.save(file, state)
    before = file.read_bytes()
    if message == STRUCTURE:  # a structure without arrays leaves no trace in a file
        learner.save(file, learner.load(file))
        return
    with pytest.raises(sj.Error, match=f"has the state of another learner, with {in_file}.*; load it with"):
        learner.load(file)
    with pytest.raises(sj.Error, match=f"has the state of another learner, with {in_file}.*; delete it, or save else"):
        learner.save(file, learner.init(jax.random.key(0)))
    assert file.read_bytes() == before


def test_a_file_in_which_one_bit_has_changed_is_refused(tmp_path):
    learner, file = make(), tmp_path / "state"
    learner.save(file, learner.init(jax.random.key(0)))
    data, rng, programs = file.read_bytes(), np.random.default_rng(0), sj.Learner._init._cache_size()
    bits = [*range(64), *rng.integers(8 * len(data), size=136)]
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(sj.Error, match="is damaged, or another version") as caught:
            learner.load(file)
        assert caught.value.exit_code == 4
    assert sj.Learner._init._cache_size() == programs
    file.write_bytes(data)
    learner.load(file)


def test_what_is_no_file_of_a_learner_is_not_replaced(tmp_path):
    learner, good = make(), tmp_path / "good"
    state = learner.init(jax.random.key(0))
    learner.save(good, state)
    data = good.read_bytes()
    files = {"text": b"The file begins with " + data[:600], "half": data[:100], "empty": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(sj.Error, match=r"exists, and is (another kind of|an empty) file"):
            learner.save(tmp_path / name, state)
        assert (tmp_path / name).read_bytes() == content
    for target in ("nowhere", "good"):
        link = tmp_path / f"link to {target}"
        link.symlink_to(target)
        with pytest.raises(sj.Error, match="is not a plain file"):
            learner.save(link, state)
        assert link.is_symlink()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("rows", "sample", "options"),
    [(None, SERIES[0], {}), (2, SERIES[:2], {"reset": np.array([True, False])})],
    ids=["", "rows with a reset"],
)
def test_a_state_that_was_donated_is_named_as_such(rows, sample, options, tmp_path):
    learner = make(rows=rows)
    state = learner.init(jax.random.key(0))
    learner.update(state, sample, sample, **options)
    for call in (
        lambda: learner.update(state, sample, sample, **options),
        lambda: learner.save(tmp_path / "state", state),
        lambda: learner.init(jax.random.key(0), state.params),
    ):
        with pytest.raises(sj.Error, match=r"was passed to `update`, .* before.* use the state that was returned"):
            call()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"w": 1.0}, r"W_hq is missing, and in this learner it is of shape \[3, 1\]"),
        ({"W_hq": np.zeros((4, 1), np.float32)}, r"W_hq is of shape \[4, 1\]"),
    ],
    ids=["other names", "another width"],
)
def test_parameters_of_another_model_are_refused(params, message):
    with pytest.raises(sj.Error, match=f"Learner.init: the parameters are not those of the model: {message}"):
        make().init(jax.random.key(0), params)


def test_parameters_with_a_bias_more_are_taken():
    learner = make(Truncated(steps=1))
    params = on_device(learner.init(jax.random.key(0)).params)
    params["layer_0"] |= {"b_hh": np.zeros(3, np.float32)}
    state = learner.init(jax.random.key(0), params)
    state, metrics = learner.update(state, SERIES[0], SERIES[1])
    assert float(metrics["grad_norm"]) > 0
    assert np.any(state.params["layer_0"]["b_hh"])


@pytest.fixture(scope="module")
def reader():
    """A learner that reads and predicts tokens, in two rows."""
    problem = RNN(hidden=3).problem(sj.Spec(sj.Tokens(5)))
    return sj.Learner(problem, RTRL(), optax.adam(0.01), rows=2)


def test_ids_on_the_host_that_are_out_of_range_are_refused(reader):
    state = reader.init(jax.random.key(0))
    for wrong in (5, 7, -1, -9, 2**40):
        for name in "xy":
            ids = {"x": np.array([1, 4]), "y": np.array([0, 2])}
            ids[name][1] = wrong
            with pytest.raises(sj.Error, match=f"{name} has the id {wrong}, and the ids are from 0 to 4"):
                reader.update(state, *ids.values())
            for number in (wrong, np.int64(wrong)):
                with pytest.raises(sj.Error, match=f"{name} has the id {wrong}"):
                    reader.update(state, *({"x": 0, "y": 0} | {name: number}).values())


@pytest.mark.parametrize("name", ["x", "y"])
def test_ids_on_the_device_that_are_out_of_range_make_the_loss_and_the_parameters_nan(name, reader):
    for wrong in (5, -1):
        ids = {"x": np.array([1, 4]), "y": np.array([0, 2])}
        _, metrics = reader.update(reader.init(jax.random.key(0)), *jax.device_put([*ids.values()]))
        assert np.isfinite(float(metrics["loss"]))
        ids[name][1] = wrong
        state, metrics = reader.update(reader.init(jax.random.key(0)), *jax.device_put([*ids.values()]))
        assert np.isnan(float(metrics["loss"]))
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(state.params["b_q"]))
        assert np.isnan(metrics["outputs"]).all(1).tolist() == [False, True]


def test_ids_for_a_loss_of_the_users_own_are_not_checked():
    problem = RNN(hidden=3).problem(
        sj.Spec(sj.Values(1), sj.Tokens(5)), lambda output, y: jnp.where(y == 7, output[0], 0)
    )
    learner = sj.Learner(problem, Truncated(steps=1), optax.adam(0.01))
    for y in (np.int32(7), jnp.int32(7)):
        _, metrics = learner.update(learner.init(jax.random.key(0)), SERIES[1], y)
        assert np.isfinite(float(metrics["loss"]))


def test_a_file_of_a_run_is_neither_replaced_nor_read(tmp_path):
    learner, file = make(), tmp_path / "params.safetensors"
    before = save_arrays({"W": np.ones(3)}, {})
    file.write_bytes(before)
    with pytest.raises(sj.Error, match="another kind of file"):
        learner.save(file, learner.init(jax.random.key(0)))
    assert file.read_bytes() == before
    with pytest.raises(sj.Error, match="not the state of a Learner"):
        learner.load(file)


def test_a_key_of_another_kind_is_kept(tmp_path):
    learner, file = make(Truncated(steps=1)), tmp_path / "state"
    state = learner.init(jax.random.key(0, impl="rbg"))
    learner.save(file, state)
    assert jax.random.key_impl(learner.load(file).key) == "rbg"

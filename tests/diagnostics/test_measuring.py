"""`measure` against enumeration, sums over the derivatives of the steps, and planted faults."""

import functools
import itertools
import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives, parts_by_step

import seqjax as sj
from seqjax.data.preparing import prepare
from seqjax.diagnostics import Measures, measuring
from seqjax.diagnostics.measuring import Moments, add_draws, summarize
from seqjax.gradients import RTRL, Batch, Full, Randomized, Truncated
from seqjax.models import RNN
from seqjax.samplers import Sequential
from seqjax.testing.proofs.cases import Case

T, B, WINDOWS = 4, 2, 3


def step(params, state, x):
    """A tanh network with a counter and a key in its state, whose loss reads the new state."""
    h = jnp.tanh(params["w"] * state["h"][::-1] + params["b"] * x * jnp.cos(state["n"].astype(x.dtype)))
    return state | {"h": h, "n": state["n"] + 1}, jnp.sum((h - 0.5) ** 2)


def setting():
    rng = np.random.default_rng(3)
    params = {name: rng.normal(size=2) for name in "bw"}
    state = {"h": rng.normal(size=(B, 2)), "n": np.zeros(B, np.int32), "key": jax.random.split(jax.random.key(0), B)}
    return jax.device_put((params, state, rng.normal(size=(T * WINDOWS, B))))


@functools.cache
def parts():
    """The part of the mean loss of each step that each step adds to the gradient, [B, steps, 1 + steps, P]."""
    params, state, xs = setting()
    window = Batch(xs, None, np.zeros(B, bool), None)
    (d,) = derivatives(Case(sj.Problem(step), params, state, [window], step, None))
    return parts_by_step(d) / xs.size


def gradient(cuts):
    """The gradient if the state that enters a step in `cuts` is a constant."""
    segment = np.searchsorted(sorted(cuts), np.arange(T * WINDOWS), side="right")
    return np.einsum("btup,tu->p", parts()[:, :, 1:], segment[:, None] == segment)


EDGES = {T, 2 * T}


def relative(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


DETERMINISTIC = {"2 steps": Truncated(steps=2), "rtrl": RTRL()}


@pytest.fixture(scope="module")
def windows():
    """Deterministic strategies, measured over three windows in float64."""
    with jax.enable_x64(True):
        params, state, xs = setting()
        return sj.measure(step, params, state, xs, DETERMINISTIC, windows=WINDOWS, batched=True)


@pytest.fixture(scope="module")
def random():
    """Random cuts, measured over one window of one row."""
    with jax.enable_x64(True):
        params, state, xs = setting()
        state, xs = jax.tree.map(lambda a: a[:1], state), xs[:6, :1]  # one row of six steps has 64 patterns
        options = {"draws": 2000, "seed": 1, "together": 5, "batched": True}
        return sj.measure(step, params, state, xs, Randomized(keep_prob=0.5), **options)


def enumerate_all():
    """The gradients [64, P] of this window for all patterns of edges, which are equally probable."""
    edges = 2 * np.array([*itertools.product([0, 1], repeat=6)])
    found = np.zeros((64, 4))
    for t, u in zip(*np.tril_indices(6), strict=True):
        found += np.prod(edges[:, u + 1 : t + 1], 1)[:, None] * parts()[0, t, 1 + u] * (T * WINDOWS * B / 6)
    return found


@pytest.mark.usefixtures("x64")
def test_deterministic_strategies_are_measured_exactly(windows):
    own, whole, cut = gradient(EDGES), gradient(set()), gradient(set(range(2, T * WINDOWS, 2)))
    assert relative(own, whole) > 0.01  # the carried state matters
    assert windows.norms["window"] == pytest.approx(np.linalg.norm(own), rel=1e-12)
    assert windows.norms["history"] == pytest.approx(np.linalg.norm(whole), rel=1e-12)
    np.testing.assert_allclose(windows.bias, [relative(cut, own), 0], atol=1e-12)
    np.testing.assert_allclose(windows.history_bias, [relative(cut, whole), 0], atol=1e-12)
    for name in ("bias_error", "history_bias_error", "variance"):
        assert getattr(windows, name).tolist() == [0, 0]
    assert windows.snr.tolist() == [math.inf] * 2
    assert windows.draws.tolist() == [1, 1]
    angle, between = (cut @ g / np.linalg.norm(cut) / np.linalg.norm(g) for g in (own, whole))
    np.testing.assert_allclose([windows.cosine[0], windows.mean_cosine[0]], angle, atol=1e-12)
    assert windows.alignment[0, 1] == pytest.approx(between, rel=1e-12)
    assert windows.cosine[1] == pytest.approx(1, rel=1e-12)  # RTRL with the gradient of the history
    np.testing.assert_allclose(np.diag(windows.alignment), 1, atol=1e-12)
    np.testing.assert_allclose(windows.alignment, windows.alignment.T, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_a_random_strategy_against_enumeration(random):
    grads_MP, n = enumerate_all(), 2000
    true_P = grads_MP.mean(0)
    norm = np.linalg.norm(true_P)
    far_M = ((grads_MP - true_P) ** 2).sum(1)
    variance, deviation = far_M.mean(), far_M.std() / math.sqrt(n)
    cosines_M = grads_MP @ true_P / norm / np.linalg.norm(grads_MP, axis=1)
    assert random.draws == n
    assert random.norms["window"] == pytest.approx(norm, rel=1e-12)
    assert abs(random.variance[0] * norm**2 - variance) < 3 * deviation < 0.45 * variance
    assert random.bias[0] < 2.5 * random.bias_error[0]
    assert random.bias_error[0] < 3 * math.sqrt(variance / n) / norm
    assert random.snr[0] == pytest.approx(norm**2 / variance, rel=0.25)
    assert abs(random.cosine[0] - cosines_M.mean()) < 3 * cosines_M.std() / math.sqrt(n)
    assert random.mean_cosine[0] == pytest.approx(1, abs=0.01)


@functools.cache
def simulated(bias):
    """400 results of `summarize` for 60 draws in 20 groups, around a gradient of norm 1 in 7 dimensions.

    Their variances are unequal, and their sum is 1.
    """
    rng, found = np.random.default_rng(0), []
    scales, g = np.sqrt(np.arange(1, 8) / 28), np.eye(7)[0]
    for _ in range(400):
        draws_KCP = (g + bias * np.eye(7)[3] + scales * rng.normal(size=(60, 7))).reshape(20, -1, 7)
        means_KP = draws_KCP.mean(1)
        squares_K = ((draws_KCP - means_KP[:, None]) ** 2).sum((1, 2))
        true = {"window": g, "history": g}
        found.append(summarize(means_KP, squares_K, np.zeros(20), 60, true, "window"))
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("bias", "most"), [(0.0, 1.0), (0.1, 1.0), (0.5, 0.99)])
def test_two_standard_errors_cover_the_bias(bias, most):
    rows = simulated(bias)
    covered = np.mean([abs(row["bias"] - bias) <= 2 * row["bias_error"] for row in rows])
    assert 0.92 <= covered <= most
    assert np.mean([row["variance"] for row in rows]) == pytest.approx(1, abs=0.02)


@pytest.mark.usefixtures("x64")
def test_noise_is_not_taken_for_bias():
    """The mean of 60 unbiased draws has a distance of about √(1/60) = .13; the reported bias is centred on 0."""
    biases = np.array([row["bias"] for row in simulated(0.0)])
    assert np.mean(biases == 0) > 0.4  # b is negative about half of the time
    assert np.sqrt(np.mean(biases**2)) < 0.08
    large = np.array([row["bias"] for row in simulated(0.5)])
    assert np.mean(large) == pytest.approx(0.5, abs=0.005)  # ‖m - g‖ would be .515


@pytest.mark.usefixtures("x64")
def test_the_error_of_no_bias_is_that_of_the_noise():
    """If the reported bias is 0, bias_error = √(2e) / 2 with e² = 2 tr Σ² / n², which a jackknife would not give."""
    e = [2 * row["bias_error"] ** 2 for row in simulated(0.0) if row["bias"] == 0]
    exact = math.sqrt(2 * np.sum((np.arange(1, 8) / 28) ** 2)) / 60
    assert np.mean(e) == pytest.approx(exact, rel=0.06)
    assert np.std(e) < 0.2 * exact


def test_a_small_spread_around_a_large_mean_survives_float32():
    """The sum of squares minus the square of the sum would lose it: the spacing of float32 at 6e8 is 64."""
    rng = np.random.default_rng(0)
    draws_NP = (1e4 + rng.normal(size=(400, 6))).astype(np.float32)
    zero, true_P = np.float32(0), np.full(6, 1e4, np.float32)
    moments, add = Moments(zero, np.zeros(6, np.float32), zero, zero), jax.jit(add_draws)
    for new_bP in draws_NP.reshape(8, 50, 6):
        moments = add(moments, new_bP, true_P)
    moments = jax.device_get(moments)
    exact_NP = np.asarray(draws_NP, np.float64)
    assert moments.count == 400
    assert moments.squares == pytest.approx(((exact_NP - exact_NP.mean(0)) ** 2).sum(), rel=1e-3)
    np.testing.assert_allclose(moments.mean, exact_NP.mean(0), rtol=1e-6)
    assert moments.cosines / 400 == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_the_size_of_the_gradient_does_not_matter(scale):
    """Although its square over- or underflows in float32."""
    params, state, xs = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == float else a, setting())

    def found(scale):
        options = {"weights": np.full(xs.shape, scale, np.float32), "batched": True}
        return sj.measure(step, params, state, xs, Randomized(keep_prob=0.5), **options, draws=40)

    want, got = found(1.0), found(scale)
    assert got.norms["history"] == pytest.approx(scale * want.norms["history"], rel=1e-4)
    for name in ("bias", "bias_error", "history_bias", "variance", "snr", "cosine", "mean_cosine", "alignment"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-4)


def experiment():
    """An experiment with a single update per epoch, so that its metrics hold the norm of the first gradient."""
    text = sj.Text("the quick brown fox jumps over the lazy dog. " * 2)
    sampler = Sequential(batch_size=2, num_steps=12)
    return sj.Experiment(dataset=text, train=40, heldout=20, model=RNN(hidden=3), sampler=sampler, epochs=2, seed=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return experiment().run(tmp_path_factory.mktemp("measure") / "run")


@pytest.mark.slow
def test_a_run_is_measured_at_its_parameters_where_its_training_starts_or_at_others(run):
    init, end = (run.measure([Full()], at=at) for at in ("init", "end"))
    assert init.shape == (1, 12, 2)
    assert init.norms["window"] == pytest.approx(run.metrics[0]["grad_norm"], rel=1e-5)
    assert init.bias[0] < 1e-6
    assert end.norms == run.measure([Full()], params=run.params, at="init").norms
    doubled = run.measure([Full()], params=jax.tree.map(lambda a: 2 * a, run.params))
    assert doubled.norms["window"] != pytest.approx(end.norms["window"], rel=1e-3)


def untrained(experiment):
    """A run of this experiment before its first update."""
    data = prepare(experiment.dataset, experiment.train, experiment.heldout, experiment.tokenizer)
    run = sj.Run(experiment, data.codec, data.spec)
    run.prepared = data
    return run


@pytest.mark.slow
def test_windows_of_a_run_carry_its_state_until_a_row_is_reset():
    """Two documents of two windows each: the gradient of the history crosses windows, but not documents."""
    sampler = Sequential(batch_size=1, num_steps=6)
    pairs = sj.Pairs(np.arange(24) % 5, np.arange(24) % 3, bounds=[0, 12, 24])
    run = untrained(sj.Experiment(dataset=pairs, train=24, heldout=0, model=RNN(hidden=3), sampler=sampler))
    found = run.measure({"full": Full(), "rtrl": RTRL()}, windows=4, at="init")
    assert found.shape == (4, 6, 1)
    assert found.history_bias[0] > 1e-4
    assert found.history_bias[1] < 1e-5


@pytest.mark.slow
def test_a_model_with_dropout_is_measured_without_it(run):
    with_dropout = untrained(replace(run.experiment, model=RNN(hidden=3, dropout=0.5)))
    found = with_dropout.measure([Full()], params=run.params)
    assert found.norms == pytest.approx(run.measure([Full()]).norms)
    assert found.bias[0] < 1e-6


def test_the_table_goes_into_a_report(windows, tmp_path):
    report = sj.Report(__file__, tmp_path)
    report.table("estimators", windows)
    assert report.tables["estimators"]["history_bias"] == windows.history_bias.tolist()
    assert "2 steps" in str(windows)
    assert "| 2 steps |" in windows._repr_markdown_()
    assert (windows.seconds > 0).all()
    assert (windows.temp_bytes > 0).all()


def test_one_window_is_the_whole_history(random):
    assert "history_bias" not in random.columns
    np.testing.assert_array_equal(random.history_bias, random.bias)


def test_json_is_strict(windows):
    found = json.loads(windows.to_json(), parse_constant=pytest.fail)
    assert found["snr"] == [None] * 2
    assert found["bias"] == windows.bias.tolist()
    assert found["shape"] == [WINDOWS, T, B]
    assert found["strategies"]["2 steps"] == {"plugin": "Truncated(steps=2)", "claim": "biased", "of": "window"}


@pytest.fixture
def many():
    """Made-up measures that can be drawn."""
    strategies = {"full": Full(), **{f"{k}": Truncated(steps=k) for k in (8, 1, 2)}, "random": Randomized()}
    numbers = {name: np.arange(1.0, 6) for name in ("draws", "bias", "history_bias", "variance", "snr", "cosine")}
    numbers |= {name: np.full(5, 0.5) for name in ("bias_error", "history_bias_error", "mean_cosine")}
    cost = {"seconds": np.array([1e-3, 2e-3, 3e-3, 4e-3, 5e-3]), "temp_bytes": np.arange(1, 6) * 1e6}
    return Measures(strategies, (1, 4, 2), {"window": 1.0, "history": 1.0}, **numbers, alignment=np.eye(5), **cost)


def test_the_bias_is_drawn_by_the_field_that_varies(many):
    axes = many.plot().axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["truncated, by steps"].get_xdata().tolist() == [1, 2, 8]
    assert lines["truncated, by steps"].get_ydata().tolist() == [3, 4, 2]
    assert lines["full"].get_ydata().tolist() == [1, 1]
    assert lines["random"].get_xdata().tolist() == [1, 8]
    assert axes.get_xlabel() == "steps"
    assert many.plot(figsize=(6.75, 2.5)).get_size_inches().tolist() == [6.75, 2.5]


def test_cost_and_alignment_are_drawn(many):
    points = {line.get_label(): line.get_data() for line in many.plot("cost").axes[0].lines}
    assert [float(axis[0]) for axis in points["random"]] == [5, 5]
    assert many.plot("alignment").axes[0].images[0].get_array().tolist() == np.eye(5).tolist()
    with pytest.raises(sj.Error, match=r"no figure 'costs'.*'cost'"):
        many.plot("costs")


def test_strategies_without_a_number_are_drawn_side_by_side(many):
    two = replace(many, strategies={"a": Full(), "b": Truncated()}, bias=np.ones(2), bias_error=np.zeros(2))
    assert [line.get_label() for line in two.plot().axes[0].lines] == ["a", "b"]


def test_what_a_logarithmic_axis_cannot_show_is_in_the_name(many):
    none = replace(many, snr=np.array([np.inf, np.inf, np.inf, np.inf, 7]))
    found = [line.get_label() for line in none.plot("snr").axes[0].lines]
    assert found == ["truncated, by steps: no positive number", "full: inf", "random"]


@pytest.mark.parametrize(
    ("strategies", "options", "words"),
    [
        ([], {}, "strategies such as"),
        ([Full(), Full()], {}, "given twice"),
        ([Randomized()], {"draws": 2}, "draws = 2 must be a whole number, at least 3"),
        ([Full()], {"draws": 0}, "draws = 0 must be a whole number, at least 1"),
        ([Full()], {"windows": 5}, "windows = 5 must divide the 12 steps"),
        ([Full()], {"windows": 0, "draws": 20.5}, r"draws = 20\.5 must be a whole[^$]*windows = 0 must be a whole"),
        ([Full()], {"seed": 2**32}, r"below 2\^32"),
        pytest.param([Full()], {"weights": np.zeros((12, 2))}, "true gradient is zero", marks=pytest.mark.slow),
    ],
)
def test_arguments_that_cannot_be_measured_are_refused(strategies, options, words):
    params, state, xs = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == float else a, setting())
    with pytest.raises(sj.Error, match=words):
        sj.measure(step, params, state, xs, strategies, **options, batched=True)


def test_arguments_that_do_not_fit_a_run_are_refused():
    for arguments, words in (
        ({"at": "middle"}, "'middle' must be"),
        ({"params": {"W": np.ones(2)}}, "params are not those of the run's model"),
        ({"windows": 5}, "windows = 5 must be from 1 to 1"),
        ({"draws": 0}, "draws = 0"),
    ):
        with pytest.raises(sj.Error, match=words):
            untrained(experiment()).measure([Full()], **arguments)


def test_an_update_does_not_pay_for_what_the_one_before_it_left_behind(monkeypatch):
    clock = {"now": 0.0, "left": 0.0}

    def update(own, left_behind):
        def call():
            clock["now"] += own + clock["left"]
            clock["left"] = left_behind

        return call, ()

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock["now"])
    np.testing.assert_allclose(
        measuring._seconds([update(2e-4, 0), update(0.1, 0.01), update(1e-3, 0)]), [2e-4, 0.11, 1e-3]
    )


@pytest.mark.usefixtures("x64")
def test_the_iterations_of_a_loop_are_measured_as_those_of_a_step_that_ignores_its_input():
    """Each step back halves the part of the last loss, so that the last two of four have a bias of a fifth."""

    def iteration(w, s, x):
        assert x is None
        s = 0.5 * s + w
        return s, s

    strategy, last = Truncated(steps=2), np.zeros((4, 2))
    last[-1] = 0.5
    w, start, weights = jax.device_put((np.ones(()), np.zeros(2), last))
    options = {"weights": weights, "batched": True}
    found = sj.measure(iteration, w, start, None, strategy, length=4, **options)
    assert found.bias[0] == pytest.approx(1 - (1 + 0.5) / (1 + 0.5 + 0.25 + 0.125), rel=1e-12)
    assert found.norms["window"] == pytest.approx(1.875, rel=1e-12)
    assert found.shape == (1, 4, 2)
    xs = jax.device_put(np.zeros((4, 2)))
    want = sj.measure(lambda w, s, x: iteration(w, s, None), w, start, xs, strategy, **options)
    for name in ("bias", "history_bias", "mean_cosine"):
        np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
    with pytest.raises(sj.Error, match="xs = None has no arrays, so that the number of steps is not known: pass it"):
        sj.measure(iteration, w, start, None, strategy, **options)
    with pytest.raises(sj.Error, match=r"^windows = 3 must divide the 4 steps$"):
        sj.measure(iteration, w, start, None, strategy, length=4, windows=3, **options)

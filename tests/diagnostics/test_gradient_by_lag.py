"""The gradient by lag, against sums over the derivatives of the steps."""

import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives, parts_by_step

import seqjax
from seqjax import Error, Problem
from seqjax.diagnostics import Lags
from seqjax.diagnostics.gradient_by_lag import StateLags
from seqjax.gradients import Batch, Truncated
from seqjax.testing.proofs.cases import Case, case

pytestmark = pytest.mark.usefixtures("x64")


def derivatives_of_scan(step, params, state, xs):
    """The derivatives of the steps of a scan whose state is a constant."""
    num_rows = jax.tree.leaves(xs)[0].shape[1]
    window = Batch(xs, None, np.zeros(num_rows, bool), None)
    (found,) = derivatives(Case(Problem(step), params, state, [window], step, None))
    return found


def by_lag(d, weights, max_lag):
    """The parts of the gradient by lag, float[max_lag + 1, P]."""
    parts = np.einsum("tb,btup->tup", weights, parts_by_step(d)[:, :, 1:])
    found = np.zeros((max_lag + 1, parts.shape[2]))
    for t, u in zip(*np.tril_indices(len(parts)), strict=True):
        found[min(t - u, max_lag)] += parts[t, u]
    return found


def flat(gradients):
    """The parts of all parameters side by side."""
    return np.concatenate([np.reshape(a, (len(a), -1)) for a in jax.tree.leaves(gradients)], 1)


def assert_are_parts(found, want):
    np.testing.assert_allclose(flat(found.gradients), want, rtol=0, atol=1e-13 * max(1, np.abs(want).max()))
    whole = np.linalg.norm(want.sum(0))
    np.testing.assert_allclose(found.norms, np.linalg.norm(want, axis=1), atol=1e-12 * whole)
    bias = [np.linalg.norm(want[k:].sum(0)) / whole for k in range(1, len(want))]
    np.testing.assert_allclose(found.bias, bias, rtol=0, atol=1e-12)


def test_a_state_that_holds_only_inputs_has_only_lag_0():
    c = case("ids")
    found = seqjax.lags(c.step, c.params, c.state, c.windows[0].xs, 2, batched=True)
    assert (np.asarray(found.norms) > 0).tolist() == [True, False, False]


BY_LAG = importlib.import_module("seqjax.diagnostics.gradient_by_lag")


@functools.cache
def scan():
    """A scan of twelve steps with uneven weights, some of which are 0: step, params, state, xs, weights."""
    c = case("small")
    xs, weights = jax.tree.map(lambda *a: np.concatenate(a), *[(w.xs, w.weights) for w in c.windows[:2]])
    return c.step, c.params, c.state, *jax.device_put((xs, weights))


@pytest.fixture(scope="module")
def report():
    """The lags of this scan, computed in blocks of five steps and two steps."""
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(BY_LAG, "BLOCK", 5 * 8 * 8)
        *args, weights = scan()
        return jax.device_get(seqjax.lags(*args, 8, weights=weights, batched=True))


def test_the_gradient_is_taken_apart_by_lag(report):
    *args, weights = scan()
    want = by_lag(derivatives_of_scan(*args), weights, 8)
    assert_are_parts(report, want)
    kept = 0.7 ** np.arange(9)
    np.testing.assert_allclose(
        flat(jax.tree.map(lambda a: np.asarray(a)[None], report.mean(kept)))[0], kept @ want, atol=1e-14
    )
    bias = np.linalg.norm((kept - 1) @ want) / np.linalg.norm(want.sum(0))
    assert report.bias_of(kept) == pytest.approx(bias, rel=1e-10)


def test_keeping_the_last_steps_has_the_reported_bias(report):
    for k in range(1, 9):
        assert report.bias_of(np.arange(9) < k) == pytest.approx(float(report.bias[k - 1]), rel=1e-10)
    with pytest.raises(Error, match="kept must have 9 entries, one for each lag"):
        report.mean(np.ones(8))


def outcomes(found, hazard):
    """Mean gradient, its relative variance, and mean number of steps, by enumeration of the position of the cut."""
    parts = flat(found.gradients)
    q = np.cumprod([1, *(1 - np.asarray(hazard))])
    probability = q - np.append(q[1:], 0)
    estimates = np.cumsum(parts / q[:, None], 0)  # entry n keeps lags up to n
    whole = parts.sum(0)
    mean, steps = probability @ estimates, probability @ np.arange(1, len(q) + 1)
    return mean, probability @ ((estimates - whole) ** 2).sum(1) / (whole @ whole), steps


@pytest.mark.parametrize("hazard", [[0.2] * 8, np.linspace(0.6, 0.1, 8)], ids=["constant", "falling"])
def test_variance_and_mean_length_of_a_hazard_by_enumeration(report, hazard):
    found = report
    mean, variance, steps = outcomes(found, hazard)
    np.testing.assert_allclose(mean, flat(found.gradients).sum(0), atol=1e-13)
    assert found.variance(hazard) == pytest.approx(variance, rel=1e-10)
    assert found.mean_length(hazard) == pytest.approx(steps, rel=1e-12)
    assert found.variance(hazard[:1]) == pytest.approx(outcomes(found, [hazard[0]] * 8)[1], rel=1e-10)


@pytest.mark.parametrize("noise", [0.1, 10.0])
def test_no_constant_hazard_has_a_smaller_product_of_variance_and_cost(report, noise):
    found = report
    product = lambda hazard: (noise + found.variance(hazard)) * found.mean_length(hazard)
    best = found.hazard(noise)
    assert product(best) <= min(map(product, np.linspace(0, 0.9, 1001))) * (1 + 1e-4)
    assert product(best) < 0.95 * max(product(0), product(0.9)), "the choice makes a difference"


@pytest.mark.parametrize(("dtype", "lags"), [(np.float64, 30), (np.float32, 300)])
def test_a_hazard_follows_the_decay_of_the_gradient(dtype, lags):
    """For orthogonal parts that fall by ρ per step c = 1 - ρ, and lags that are rounding errors change nothing."""
    tails = 0.6 ** np.arange(1, lags + 1)
    if dtype == np.float32:
        tails = tails + 1e-7 * np.random.default_rng(0).random(lags)
    found = Lags((), np.ones(lags + 1, dtype), tails.astype(dtype))
    assert found.hazard() == pytest.approx(0.4, abs=2e-3)


def test_rate_and_steps():
    norms = np.concatenate([[9.0], 2 * 0.8 ** np.arange(1, 20), [7.0]])
    found = Lags((), norms, np.array([0.5, 0.05, 0.3, *[0.009] * 17]))
    assert found.rate == pytest.approx(0.8)
    assert [found.steps(bias) for bias in (0.6, 0.4, 0.1, 0.01, 0.001)] == [1, 2, 4, 4, None]
    assert "norms change by a factor of 0.8 a step; bias within 10% from 4 steps on, 1% from 4 steps on" in str(found)
    assert found.table["steps kept"] == [1, 2, 5, 10, 20]
    # The last norm, 7, is that of all older lags together, and not that of lag 20.
    assert found.table["norm of the next lag"] == [*(norms[k] for k in (1, 2, 5, 10)), None]


def test_one_lag_has_no_rate_and_no_table_by_variable():
    found = Lags({"a": np.ones((2, 3)), "b": np.ones((2, 3))}, np.array([1.0, 0.5]), np.array([0.4]))
    assert str(found).splitlines()[2:] == ["bias above 10% up to 1 step"]


def test_wrong_hazards_are_refused(report):
    for hazard in (1.0, [-0.1], [], [np.nan]):
        with pytest.raises(Error, match="a probability below 1, or a sequence of them"):
            report.variance(hazard)
    with pytest.raises(Error, match=r"noise = 0\.0 must be positive"):
        report.hazard(0.0)
    with pytest.raises(Error, match="zero or not finite"):
        report._replace(bias=report.bias * np.nan).hazard()


def decaying(scale=1.0, dtype=float):
    """A scan of one number whose gradient has parts at all lags, times a scale."""

    def step(w, h, x):
        h = jnp.tanh(w * h + x)
        return h, (scale * h**2).astype(dtype)

    xs = np.random.default_rng(2).normal(size=(9, 1))
    return step, *jax.device_put([np.asarray(a, dtype) for a in (0.7, [0.3], xs)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones((1, 9))}, r"weights must be float\[T, B\] = \[9, 1\], not \[1, 9\]"),
        ({"params": 3}, "params has no floats, so that there is nothing to differentiate; found int"),
        ({"state": np.zeros(2)}, r"state has shape \(2,\), and xs has 1 rows"),
        ({"xs": (np.zeros((9, 1)), np.zeros((8, 1)))}, "must share T and B"),
        ({"xs": np.zeros((0, 1))}, "at least 1 each"),
        ({"step_or_problem": lambda w, h, x: (h, jnp.stack([w * h, h]))}, "loss must be one number"),
        ({"max_lag": 0}, "max_lag = 0 must be a whole number, at least 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    step, params, state, xs = decaying()
    given = {"step_or_problem": step, "params": params, "state": state, "xs": xs, "max_lag": 3} | change
    with pytest.raises(Error, match=message):
        seqjax.lags(**given, batched=True)


@pytest.mark.parametrize("scale", [1e19, pytest.param(1e-23, marks=pytest.mark.slow)])
def test_large_and_small_gradients_in_float32_have_a_bias(scale):
    want = seqjax.lags(*decaying(), 4, batched=True)
    found = seqjax.lags(*decaying(scale, jnp.float32), 4, batched=True)
    np.testing.assert_allclose(found.bias, want.bias, rtol=1e-4)
    np.testing.assert_allclose(np.asarray(found.norms, np.float64) / scale, want.norms, rtol=1e-4)


def test_what_explodes_is_the_gradient_of_one_lag():
    """The sum of all parts from `max_lag` on is not the gradient of a lag."""

    def step(theta, state, x):
        state = state + theta * x
        return state, state

    xs = np.full((1200, 1), 1e-300)
    found = jax.device_get(
        seqjax.lags(
            step,
            *jax.device_put((np.array(1.0), np.zeros(1), xs)),
            20,
            weights=jax.device_put(np.ones((1200, 1))),
            batched=True,
        )
    )
    assert found.by_state["state"].norms[-1] > 1_000 * found.by_state["state"].norms[0]
    assert found.explodes is None


@pytest.mark.slow
def test_half_precision_is_printed():
    found = jax.device_get(seqjax.lags(*decaying(1.0, jnp.bfloat16), 4, batched=True))
    assert "norms change by a factor of 0." in str(found)
    assert re.fullmatch(r"Lags\(\d+ lags: norms change by a factor of 0\.[^\n]*\)", repr(found))
    assert len(repr(found)) < 160
    assert "zero or not finite" in str(found._replace(bias=np.full(4, np.nan)))


def test_the_figure_shows_norms_and_bias(report):
    upper, lower = report.plot("a title").axes
    np.testing.assert_allclose(lower.lines[0].get_ydata(), report.bias)
    np.testing.assert_allclose(upper.lines[0].get_ydata(), report.norms[:-1] / report.norms[0])


def two_variables():
    """A state of two variables, a counter and a key, and two parameters."""
    rng = np.random.default_rng(6)
    params = {name: rng.normal(size=2) for name in "ab"}

    def step(params, state, x):
        v = jnp.sin(params["a"] * state["v"][::-1] + params["b"] * state["m"]) + x
        return state | {"v": v, "m": 0.9 * state["m"] + v[0], "n": state["n"] + 1}, jnp.sum(v**2) * state["m"]

    state = {"v": rng.normal(size=(2, 2)), "m": np.ones(2), "n": np.zeros(2, np.int32)}
    state["key"] = jax.random.split(jax.random.key(6), 2)
    return step, *jax.device_put((params, state, rng.normal(size=(11, 2, 2))))


def test_the_parts_by_parameter_and_by_state_variable():
    """Against the derivatives of every loss by the state after every step."""
    step, params, state, xs = two_variables()
    num_steps, max_lag = len(xs), 8
    d = derivatives_of_scan(step, params, state, xs)
    by_step = np.zeros((num_steps, num_steps, *d.q.shape[::2]))  # [T losses, T states, B, S]
    for s in range(num_steps):
        v = d.q[:, s] / (num_steps * 2)
        for t in reversed(range(s)):
            by_step[s, t], v = v, np.einsum("bi,bij->bj", v, d.J[:, t])
    found = jax.device_get(seqjax.lags(step, params, state, xs, max_lag, batched=True))
    for name, numbers in {"m": slice(0, 1), "v": slice(1, 3)}.items():
        for k in range(1, max_lag + 1):
            later = [range(t + k, num_steps if k == max_lag else min(t + k + 1, num_steps)) for t in range(num_steps)]
            norms = [np.linalg.norm(by_step[[*after], t].sum(0)[:, numbers]) for t, after in enumerate(later)]
            assert float(found.by_state[name].norms[k - 1]) == pytest.approx(max(norms), rel=1e-10)
            assert int(found.by_state[name].steps[k - 1]) == int(np.argmax(norms))
    for name, norms in found.by_param.items():
        leaf = np.asarray(found.gradients[name]).reshape(max_lag + 1, -1)
        np.testing.assert_allclose(norms, np.linalg.norm(leaf, axis=1), rtol=1e-12)
    assert list(found.by_state) == ["m", "v"]
    seconds = found.by_state["v"].norms, found.by_param["b"]
    for by, names, second in zip(("state", "param"), (["m", "v"], ["a", "b"]), seconds, strict=True):
        drawn = found.plot(by=by).axes[0].get_lines()
        assert [line.get_label() for line in drawn] == names
        np.testing.assert_array_equal(drawn[1].get_ydata(), second)
    with pytest.raises(Error, match='by = \'row\' must be "state", "param" or None'):
        found.plot(by="row")
    assert "state  v" in str(found)
    assert found.explodes is None


def test_the_variable_that_explodes_first_is_named():
    """m grows by a factor of 9 in a step: 9^4 exceeds 1,000, and v only follows m."""

    def step(w, state, x):
        m = 9 * state["m"] + w.sum() * x
        return {"m": m, "v": 0.5 * state["v"] + 1e-9 * m}, m + state["v"]

    state, xs = {"m": np.zeros(1), "v": np.zeros(1)}, np.ones((20, 1))
    found = jax.device_get(seqjax.lags(step, *jax.device_put((np.array([0.5, 0.5]), state, xs)), 8, batched=True))
    name, lag, at = found.explodes
    assert (name, lag) == ("m", 5)
    norms = np.asarray(found.by_state["m"].norms)
    assert norms[lag - 1] > 1000 * norms[0] > norms[lag - 2]
    assert at == int(found.by_state["m"].steps[lag - 1])
    assert f"the gradient by m explodes first: 1,000-fold within 5 steps, largest at step {at}" in str(found)


def test_a_gradient_that_begins_tiny_explodes_where_it_exceeds_those_of_other_variables():
    """The last entry, that of all older parts, does not count."""
    steps, direct = np.arange(5), StateLags(np.ones(5), np.arange(5))
    for norms, expected in (([0, 1e-9, 1e-4, 1, 1e9], None), ([0, 1e-9, 1e-4, 2e3, 1], ("indirect", 4, 3))):
        by_state = {"direct": direct, "indirect": StateLags(np.array(norms), steps)}
        assert Lags((), np.ones(6), np.ones(5), by_state=by_state).explodes == expected


def test_a_variable_that_overflows_explodes():
    step = lambda w, h, x: (1e30 * w * h, h)
    found = jax.device_get(seqjax.lags(step, *decaying(1.0, jnp.bfloat16)[1:], 4, batched=True))
    assert found.explodes[:2] == ("state", 2)
    assert "the gradient is zero or not finite" in str(found)


def test_a_scan_with_outputs_and_one_sequence():
    """`has_aux`, `batched=False` and the last loss alone change the form of the arguments. All lags are kept apart."""
    step, params, state, xs = two_variables()

    def with_outputs(params, state, x):
        state, loss = step(params, state, x)
        return state, (loss, state["v"])

    last = np.zeros((len(xs), 2))
    last[-1, 0] = 1
    one = jax.device_put(({name: jax.device_get(a)[0] for name, a in state.items()}, np.asarray(xs)[:, 0]))
    found = seqjax.lags(with_outputs, params, *one, 11, weights="last", has_aux=True)
    assert_are_parts(found, by_lag(derivatives_of_scan(step, params, state, xs), last, 11))


def test_truncated_keeps_a_falling_share_of_each_lag():
    assert Truncated(steps=4).kept(5).tolist() == [1, 0.75, 0.5, 0.25, 0, 0]


PULL, GOAL = np.array([0.3, -0.2, 0.5]), np.array([0.1, 0.4, -0.3])


def iteration(W, s, x):
    """One step of a fixed-point iteration, and the squared distance from a goal. It cannot read anything."""
    assert x is None
    s = jnp.tanh(W @ s + PULL)
    return s, jnp.sum((s - GOAL) ** 2)


def start_of_iteration(rows=()):
    rng = np.random.default_rng(8)
    return jax.device_put((rng.normal(size=(3, 3)) / 6, rng.normal(size=(*rows, 3))))


def test_the_iterations_of_a_loop_have_the_parts_of_an_unrolled_loop():
    """The loss of the last of 40 iterations, whose gradient travels back by hand. The parts form a Neumann series."""
    W, start = start_of_iteration()
    found = jax.device_get(seqjax.lags(iteration, W, start, length=40, weights="last"))
    W, states = np.asarray(W), [np.asarray(start)]
    for _ in range(40):
        states.append(np.tanh(W @ states[-1] + PULL))
    want, v = np.zeros((41, 9)), 2 * (states[-1] - GOAL)
    for lag in range(40):
        before, after = states[-2 - lag], states[-1 - lag]
        u = v * (1 - after**2)
        want[lag], v = np.outer(u, before).ravel(), W.T @ u
    assert_are_parts(found, want)
    fixed = states[-1]
    at_fixed_point = np.linalg.solve(np.eye(3) - W.T * (1 - fixed**2), 2 * (fixed - GOAL))  # the sum of the series
    np.testing.assert_allclose(
        flat(found.gradients).sum(0), np.outer((1 - fixed**2) * at_fixed_point, fixed).ravel(), atol=1e-9
    )


@pytest.mark.slow
def test_iterations_of_rows_with_resets_are_those_of_a_step_that_ignores_its_input():
    W, start = start_of_iteration((2,))
    weights = np.random.default_rng(9).random((9, 2))
    options = {"weights": weights, "reset": np.arange(9) == 5, "has_aux": True, "batched": True}

    def with_outputs(W, s, x):
        s, loss = iteration(W, s, x)
        return s, (loss, s)

    ignoring = lambda W, s, x: with_outputs(W, s, None)
    found = seqjax.lags(with_outputs, W, start, None, 4, length=9, **options)
    want = seqjax.lags(ignoring, W, start, jax.device_put(np.zeros((9, 2, 1))), 4, **options)
    assert found.norms[4] > 0
    jax.tree.map(np.testing.assert_array_equal, found, want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": None}, r"^xs = None has no arrays, so that the number of steps is not known: pass it, such as len"),
        ({"xs": np.zeros(5)}, r"^length = 4, and the leaves of xs have T = 5: leave length out$"),
        ({"length": 0}, r"^length = 0 must be a whole number, at least 1"),
        ({"length": 2.5}, r"^length = 2\.5 must be a whole number, at least 1"),
        ({"max_lag": 5}, r"^max_lag = 5 must be at most 4, the number of steps$"),
        ({"state": ()}, r"the leaves of state, \[B, \.\.\.\], must share B, at least 1; found \[\]"),
        ({"state": np.zeros(())}, r"must share B.* found \[\(\)\]\n.* xs is None, .* leave batched=True out$"),
        ({"state": (np.zeros(2), np.zeros(3))}, r"must share B, at least 1; found \[\(2,\), \(3,\)\]"),
        ({"step_or_problem": lambda w, s, x: (s, w * x)}, r"^the step raises TypeError: .*\n.* xs is None, read"),
    ],
)
def test_a_length_that_does_not_fit_is_named(change, message):
    given = {"step_or_problem": lambda w, s, x: (s, w), "params": np.ones(()), "state": np.ones(2), "length": 4}
    with pytest.raises(Error, match=message):
        seqjax.lags(**given | change, batched="state" in change)

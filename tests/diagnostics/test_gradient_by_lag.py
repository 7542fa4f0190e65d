"""The gradient by lag, against Jacobians by a separate copy of the parameters for each step."""

import importlib
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Error, Problem, Spec, Tokens, Values
from seqjax.diagnostics import Lags
from seqjax_gradients import Discounted, Full, Truncated
from seqjax_models import GRU, LSTM, MLP, RNN

pytestmark = pytest.mark.usefixtures("x64")


def rows(problem, *shape, seed=0):
    """Parameters and states of a problem that are not zero, and what it reads; `shape` is (T, B)."""
    rng = np.random.default_rng(seed)
    inputs, targets = problem.spec.inputs, problem.spec.targets
    params = problem.model.init(jax.random.key(seed), problem.spec)
    params = jax.tree.map(lambda a: a + 0.5 * rng.normal(size=a.shape), params)
    state = jax.vmap(lambda _: problem.init_state(params))(jnp.arange(shape[1]))
    state = jax.tree.map(lambda a: a + 0.5 * rng.normal(size=a.shape) if a.dtype == float else a, state)
    if isinstance(inputs, Tokens):
        ids = rng.integers(0, inputs.size, (shape[0] + 1, shape[1]))
        return params, state, (jnp.asarray(ids[:-1]), jnp.asarray(ids[1:]))
    return params, state, tuple(jnp.asarray(rng.normal(size=(*shape, side.dim))) for side in (inputs, targets))


def equinox_gru():
    """An unchanged cell of Equinox, with a read-out."""
    model = {"cell": eqx.nn.GRUCell(2, 4, key=jax.random.key(1)), "out": eqx.nn.Linear(4, 1, key=jax.random.key(2))}
    params, rest = eqx.partition(model, eqx.is_array)
    rng = np.random.default_rng(3)

    def step(params, h, x):
        model = eqx.combine(params, rest)
        h = model["cell"](x["in"], h)
        return h, jnp.sum((model["out"](h) - x["out"]) ** 2)

    xs = {"in": jnp.asarray(rng.normal(size=(12, 3, 2))), "out": jnp.asarray(rng.normal(size=(12, 3, 1)))}
    return step, params, jnp.asarray(rng.normal(size=(3, 4))), xs


def unrolled_sgd():
    """200 steps of training, differentiated by the learning rate through all of them."""
    rng = np.random.default_rng(4)
    true = rng.normal(size=5)

    def loss(weights, data):
        return jnp.mean((jnp.tanh(data["in"] @ weights) - data["out"]) ** 2)

    def step(rate, weights, data):
        return weights - jnp.exp(rate) * jax.grad(loss)(weights, data), loss(weights, data)

    inputs = rng.normal(size=(200, 1, 8, 5))
    xs = {"in": jnp.asarray(inputs), "out": jnp.asarray(np.tanh(inputs @ true))}
    return step, jnp.log(0.05), jnp.asarray(rng.normal(size=(1, 5))), xs


def leaky_rates():
    """A leaky network of firing rates, with a counter and a key in its state."""
    rng = np.random.default_rng(5)
    params = {"W": jnp.asarray(rng.normal(size=(6, 6))), "b": jnp.asarray(rng.normal(size=6)), "tau": jnp.array(3.0)}

    def step(params, state, x):
        voltage = state["v"] + (params["W"] @ jnp.tanh(state["v"]) + params["b"] + x - state["v"]) / params["tau"]
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]), (), voltage.dtype)
        return {"v": voltage, "n": state["n"] + 1, "key": state["key"]}, voltage[0] ** 2 + 0.1 * noise * voltage[1]

    state = {"v": jnp.asarray(rng.normal(size=(2, 6))), "n": jnp.zeros(2, jnp.int32)}
    state["key"] = jax.random.split(jax.random.key(6), 2)
    return step, params, state, jnp.asarray(rng.normal(size=(15, 2, 6)))


FOREIGN = {"equinox GRU": equinox_gru, "unrolled SGD": unrolled_sgd, "leaky rates": leaky_rates}


def jacobians(step, params, state, xs, weights):
    """The Jacobians of each step's loss by each step's copy of the parameters, leaves [T, T, ...]."""
    num_steps = len(weights)
    copies = jax.tree.map(lambda a: jnp.stack([a] * num_steps), params)

    def losses(copies):
        def body(state, inputs):
            params, x, weights = inputs
            state, losses = jax.vmap(step, (None, 0, 0))(params, state, x)
            return state, jnp.sum(weights * losses)

        return jax.lax.scan(body, state, (copies, xs, weights))[1]

    return jax.jit(jax.jacrev(losses))(copies)


def parts(jacobian, max_lag):
    """The parts of the gradient by lag, [max_lag + 1, ...]."""
    found = np.zeros((max_lag + 1, *jacobian.shape[2:]))
    for t in range(len(jacobian)):
        for s in range(t + 1):
            found[min(t - s, max_lag)] += jacobian[t, s]
    return found


def assert_are_parts(found, jacobian, max_lag):
    want = [parts(np.asarray(leaf), max_lag) for leaf in jax.tree.leaves(jacobian)]
    got = jax.tree.leaves(found.gradients)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(1, np.abs(b).max()))
    flat = np.concatenate([leaf.reshape(max_lag + 1, -1) for leaf in want], 1)
    whole = np.linalg.norm(flat.sum(0))
    np.testing.assert_allclose(found.norms, np.linalg.norm(flat, axis=1), atol=1e-12 * whole)
    bias = [np.linalg.norm(flat[k:].sum(0)) / whole for k in range(1, max_lag + 1)]
    np.testing.assert_allclose(found.bias, bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "leaky rates")) for n in FOREIGN])
def test_a_scan_that_knows_nothing_of_seqjax(name):
    step, params, state, xs = FOREIGN[name]()
    num_steps, num_rows = jax.tree.leaves(xs)[0].shape[:2]
    jacobian = jacobians(step, params, state, xs, np.full((num_steps, num_rows), 1 / (num_steps * num_rows)))
    max_lag = {"equinox GRU": num_steps // 2, "unrolled SGD": 50, "leaky rates": num_steps + 2}[name]
    assert_are_parts(seqjax.lags(step, params, state, xs, max_lag), jacobian, max_lag)


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        pytest.param(RNN(hidden=3), Spec(Tokens(5)), marks=pytest.mark.slow),
        (MLP(lags=3, hidden=4), Spec(Tokens(5))),
        pytest.param(GRU(hidden=3, layers=2), Spec(Tokens(5)), marks=pytest.mark.slow),
        pytest.param(LSTM(hidden=3), Spec(Tokens(5)), marks=pytest.mark.slow),
        pytest.param(MLP(lags=3, hidden=4), Spec(Values(2)), marks=pytest.mark.slow),
    ],
    ids=["rnn", "mlp on tokens", "gru", "lstm", "mlp on values"],
)
def test_a_model_with_uneven_weights_in_blocks(model, spec, monkeypatch):
    """Blocks of one step, or of several steps with a rest. A state that holds only inputs has only lag 0."""
    problem = Problem.of(model, spec)
    params, state, xs = rows(problem, 11, 2)
    weights = np.random.default_rng(1).normal(size=(11, 2))
    jacobian = jacobians(problem.step, params, state, xs, weights)
    numbers = 1 if isinstance(model, LSTM) else 3 * 4 * 2 * 3
    monkeypatch.setattr(importlib.import_module("seqjax.diagnostics.gradient_by_lag"), "BLOCK", numbers)
    found = seqjax.lags(problem, params, state, xs, 4, weights=jnp.asarray(weights))
    assert_are_parts(found, jacobian, 4)
    if isinstance(model, MLP):
        assert (np.asarray(found.norms)[1:] == 0).all()


@pytest.fixture(scope="module")
def report():
    """The lags of a recurrent network, and what they were computed from, in float64."""
    with jax.enable_x64(True):
        problem = Problem.of(RNN(hidden=4), Spec(Tokens(5)))
        params, state, xs = rows(problem, 16, 2)
        return seqjax.lags(problem, params, state, xs, 8), (problem, params, state, xs)


def test_the_mean_of_a_discount_is_the_discounted_gradient(report):
    """If all lags are kept apart."""
    _, (problem, params, state, xs) = report
    found = seqjax.lags(problem, params, state, xs, 16)
    want = jax.jit(seqjax.value_and_grad(problem, Discounted(discount=0.7)))(params, state, xs).grads
    full = jax.tree.map(lambda a: a.sum(0), found.gradients)
    kept = 0.7 ** np.arange(17)
    for a, b in zip(jax.tree.leaves(found.mean(kept)), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    want_bias = np.linalg.norm(flat(want) - flat(full)) / np.linalg.norm(flat(full))
    assert found.bias_of(kept) == pytest.approx(want_bias, rel=1e-10)


def test_keeping_the_last_steps_has_the_reported_bias(report):
    found, _ = report
    for k in range(1, 9):
        assert found.bias_of(np.arange(9) < k) == pytest.approx(float(found.bias[k - 1]), rel=1e-10)
    with pytest.raises(Error, match="kept must have 9 entries"):
        found.mean(np.ones(8))


def outcomes(found, hazard):
    """Mean gradient, its relative variance, and mean number of steps, by enumeration of the position of the cut."""
    parts = np.concatenate([np.reshape(a, (len(a), -1)) for a in jax.tree.leaves(found.gradients)], 1)
    q = np.cumprod([1, *(1 - np.asarray(hazard))])
    probability = q - np.append(q[1:], 0)
    estimates = np.cumsum(parts / q[:, None], 0)  # entry n keeps lags up to n
    whole = parts.sum(0)
    mean, steps = probability @ estimates, probability @ np.arange(1, len(q) + 1)
    return mean, probability @ ((estimates - whole) ** 2).sum(1) / (whole @ whole), steps


@pytest.mark.parametrize("hazard", [[0.2] * 8, np.linspace(0.6, 0.1, 8)], ids=["constant", "falling"])
def test_variance_and_mean_length_of_a_hazard_by_enumeration(report, hazard):
    found, _ = report
    mean, variance, steps = outcomes(found, hazard)
    whole = np.concatenate([np.ravel(a.sum(0)) for a in jax.tree.leaves(found.gradients)])
    np.testing.assert_allclose(mean, whole, atol=1e-13)
    assert found.variance(hazard) == pytest.approx(variance, rel=1e-10)
    assert found.mean_length(hazard) == pytest.approx(steps, rel=1e-12)
    assert found.variance(hazard[:1]) == pytest.approx(outcomes(found, [hazard[0]] * 8)[1], rel=1e-10)


@pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
def test_no_constant_hazard_has_a_smaller_product_of_variance_and_cost(report, noise):
    found = report[0]
    product = lambda hazard: (noise + found.variance(hazard)) * found.mean_length(hazard)
    best = found.hazard(noise)
    assert product(best) <= min(map(product, np.linspace(0, 0.9, 3001))) * (1 + 1e-4)
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
    found, (problem, params, state, xs) = report
    with pytest.raises(Error, match="a single sequence takes batched=False"):
        seqjax.lags(problem, params, state, (xs[0][:, 0], xs[1][:, 0]), 3)
    for hazard in (1.0, [-0.1], [], [np.nan]):
        with pytest.raises(Error, match="a probability below 1, or a sequence of them"):
            found.variance(hazard)
    with pytest.raises(Error, match="noise must be positive"):
        found.hazard(0.0)
    with pytest.raises(Error, match="zero or not finite"):
        found._replace(bias=found.bias * np.nan).hazard()


def decaying(scale=1.0, dtype=float):
    """A scan of one number whose gradient has parts at all lags, times a scale."""

    def step(w, h, x):
        h = jnp.tanh(w * h + x)
        return h, (scale * h**2).astype(dtype)

    xs = np.random.default_rng(2).normal(size=(9, 1))
    return step, jnp.asarray(0.7, dtype), jnp.full(1, 0.3, dtype), jnp.asarray(xs, dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": jnp.ones((1, 9))}, r"weights must be float\[T, B\] = \[9, 1\], not \[1, 9\]"),
        ({"weights": jnp.ones(9)}, r"not \[9\]"),
        ({"params": 3}, "no parameter is a float, so that there is nothing to differentiate; found int"),
        ({"state": jnp.zeros(2)}, r"state has shape \(2,\), and xs has 1 rows"),
        ({"xs": (jnp.zeros((9, 1)), jnp.zeros((8, 1)))}, "must share T and B"),
        ({"xs": jnp.zeros((0, 1))}, "at least 1 each"),
        ({"step_or_problem": lambda w, h, x: (h, jnp.stack([w * h, h]))}, "loss must be one number"),
        ({"max_lag": 2.5}, r"max_lag = 2\.5 must be a whole number, at least 1"),
        ({"max_lag": 0}, "max_lag = 0 must be a whole number, at least 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    step, params, state, xs = decaying()
    given = {"step_or_problem": step, "params": params, "state": state, "xs": xs, "max_lag": 3} | change
    with pytest.raises(Error, match=message):
        seqjax.lags(**given)


@pytest.mark.parametrize("scale", [1e19, 1e-23])
def test_large_and_small_gradients_in_float32_have_a_bias(scale):
    want = seqjax.lags(*decaying(), 4)
    found = seqjax.lags(*decaying(scale, jnp.float32), 4)
    np.testing.assert_allclose(found.bias, want.bias, rtol=1e-4)
    np.testing.assert_allclose(np.asarray(found.norms, np.float64) / scale, want.norms, rtol=1e-4)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, None), (2.0, ("state", 11, 2988))])
def test_what_explodes_is_the_gradient_of_one_lag(factor, expected):
    """The sum of all parts from `max_lag` on is not the gradient of a lag."""

    def step(theta, state, x):
        state = factor * state + theta * x
        return state, state

    xs = 1e-300 * jnp.ones((3000, 1))
    weights = jnp.where(jnp.arange(3000)[:, None] >= (0 if factor == 1 else 2999), 1.0, 0.0)
    found = seqjax.lags(step, jnp.array(1.0), jnp.zeros(1), xs, 20, weights=weights)
    assert found.by_state["state"].norms[-1] > 1_000 * found.by_state["state"].norms[0]
    assert found.explodes == expected


def test_half_precision_is_printed():
    found = seqjax.lags(*decaying(1.0, jnp.bfloat16), 4)
    assert "norms change by a factor of 0." in str(found)
    assert re.fullmatch(r"Lags\(\d+ lags: norms change by a factor of 0\.[^\n]*\)", repr(found))
    assert len(repr(found)) < 160
    assert "zero or not finite" in str(seqjax.lags(*decaying(0.0), 4))


def test_the_figure_shows_norms_and_bias(report):
    upper, lower = report[0].plot("a title").axes
    np.testing.assert_allclose(lower.lines[0].get_ydata(), report[0].bias)
    np.testing.assert_allclose(upper.lines[0].get_ydata(), report[0].norms[:-1] / report[0].norms[0])


def two_variables():
    """A state of two variables and a counter, and two parameters."""
    rng = np.random.default_rng(6)
    params = {"A": jnp.asarray(0.5 * rng.normal(size=(3, 3))), "b": jnp.asarray(rng.normal(size=3))}

    def step(params, state, x):
        v = jnp.sin(params["A"] @ state["v"] + params["b"] * state["m"]) + x
        return {"v": v, "m": 0.9 * state["m"] + v[0], "n": state["n"] + 1}, jnp.sum(v**2) * state["m"]

    state = {"v": jnp.asarray(rng.normal(size=(2, 3))), "m": jnp.ones(2), "n": jnp.zeros(2, jnp.int32)}
    return step, params, state, jnp.asarray(rng.normal(size=(9, 2, 3)))


def test_the_parts_by_parameter_and_by_state_variable():
    """Against the derivatives of every loss by shifts of the state after every step."""
    step, params, state, xs = two_variables()
    num_steps, max_lag = len(xs), 4

    def losses(shifts):
        def body(state, inputs):
            x, shift = inputs
            state, losses = jax.vmap(step, (None, 0, 0))(params, state, x)
            return state | {name: state[name] + shift[name] for name in "vm"}, losses / losses.size / num_steps

        return jax.lax.scan(body, state, (xs, shifts))[1]

    shifts = {"v": jnp.zeros((num_steps, 2, 3)), "m": jnp.zeros((num_steps, 2))}
    by_step = jax.jit(jax.jacrev(lambda shifts: losses(shifts).sum(1)))(shifts)  # [T losses, T states, B, ...]
    found = seqjax.lags(step, params, state, xs, max_lag)
    for name, jacobian in by_step.items():
        for k in range(1, max_lag + 1):
            later = [range(t + k, num_steps if k == max_lag else min(t + k + 1, num_steps)) for t in range(num_steps)]
            norms = [np.linalg.norm(sum(np.asarray(jacobian)[s, t] for s in after)) for t, after in enumerate(later)]
            assert float(found.by_state[name].norms[k - 1]) == pytest.approx(max(norms), rel=1e-10)
            assert int(found.by_state[name].steps[k - 1]) == int(np.argmax(norms))
    for name, norms in found.by_param.items():
        leaf = np.asarray(found.gradients[name]).reshape(max_lag + 1, -1)
        np.testing.assert_allclose(norms, np.linalg.norm(leaf, axis=1), rtol=1e-12)
    total = np.sqrt(sum(norms**2 for norms in found.by_param.values()))
    np.testing.assert_allclose(total, found.norms, rtol=1e-12)
    assert list(found.by_state) == ["m", "v"]
    for by, names in (("state", ["m", "v"]), ("param", ["A", "b"])):
        axes = found.plot(by=by).axes[0]
        assert [line.get_label() for line in axes.get_lines()] == names
        np.testing.assert_array_equal(
            axes.get_lines()[1].get_ydata(),
            getattr(found, f"by_{by}")[names[1]] if by == "param" else found.by_state["v"].norms,
        )
    with pytest.raises(Error, match='by = \'row\' must be "state", "param" or None'):
        found.plot(by="row")
    assert "state  v" in str(found)
    assert found.explodes is None


def test_the_variable_that_explodes_first_is_named():
    """m grows by a factor of 9 in a step: 9^4 exceeds 1,000, and v only follows m."""

    def step(w, state, x):
        m = 9 * state["m"] + w * x
        return {"m": m, "v": 0.5 * state["v"] + 1e-9 * m}, m + state["v"]

    state, xs = {"m": jnp.zeros(1), "v": jnp.zeros(1)}, jnp.ones((20, 1))
    found = seqjax.lags(step, jnp.array(1.0), state, xs, 8)
    name, lag, at = found.explodes
    assert (name, lag) == ("m", 5)
    norms = np.asarray(found.by_state["m"].norms)
    assert norms[lag - 1] > 1000 * norms[0] > norms[lag - 2]
    assert at == int(found.by_state["m"].steps[lag - 1])
    assert f"the gradient by m explodes first: 1,000-fold within 5 steps, largest at step {at}" in str(found)


def test_a_chain_whose_gradient_stays_small_does_not_explode():
    """Each mass acts on the loss through its neighbours: its gradient begins tiny, and never exceeds that of the first.

    The same state in two leaves or in one leaf per mass must not differ in this.
    """

    def step(k, state, x):
        q, p = jnp.stack(state["q"]), jnp.stack(state["p"])
        force = -k * (2 * q - jnp.roll(q, 1).at[0].set(0) - jnp.roll(q, -1).at[-1].set(0)) - 0.1 * p
        p = p + 0.01 * force
        q = q + 0.01 * p
        return {"q": tuple(q), "p": tuple(p)}, (q[0] - x) ** 2

    state = {"q": (jnp.ones(1),) + (jnp.zeros(1),) * 5, "p": (jnp.zeros(1),) * 6}
    found = seqjax.lags(step, jnp.array(1.0), state, jnp.zeros((200, 1)), 60)
    assert max(float(lags.norms[:-1].max() / lags.first_norm) for lags in found.by_state.values()) > 1_000
    assert found.explodes is None


def test_a_variable_that_overflows_explodes():
    def step(w, h, x):
        return 1e30 * w * h, h

    with jax.enable_x64(False):
        found = seqjax.lags(step, jnp.float32(1.0), jnp.zeros(1), jnp.zeros((9, 1)), 5)
    assert found.explodes[:2] == ("state", 2)
    assert "the gradient is zero or not finite" in str(found)


def test_a_scan_with_outputs_and_one_sequence():
    """`has_aux`, `batched=False` and the last loss alone change the form of the arguments only."""
    step, params, state, xs = two_variables()
    one, x = jax.tree.map(lambda a: a[0], state), xs[:, 0]

    def with_outputs(params, state, x):
        state, loss = step(params, state, x)
        return state, (loss, state["v"])

    row = jax.tree.map(lambda a: a[:1], state)
    weights = np.zeros((len(x), 1))
    weights[-1] = 1
    want = seqjax.lags(step, params, row, xs[:, :1], 3, weights=weights)
    found = seqjax.lags(with_outputs, params, one, x, 3, weights="last", has_aux=True, batched=False)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_truncated_keeps_the_shares_of_its_segments():
    """The mean over windows of many segments, from the lags, against the truncated gradient itself."""
    step, params, state, xs = FOREIGN["leaky rates"]()
    xs = jnp.tile(xs, (40, 1, 1))
    strategy = Truncated(steps=4)
    found = seqjax.lags(step, params, state, xs, 8)
    full, truncated = (seqjax.value_and_grad(step, each)(params, state, xs).grads for each in (Full(), strategy))
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    bias = np.linalg.norm(flat(truncated) - flat(full)) / np.linalg.norm(flat(full))
    assert strategy.kept(5).tolist() == [1, 0.75, 0.5, 0.25, 0, 0]
    assert found.bias_of(strategy.kept(8)) == pytest.approx(bias, rel=0.1)

"""Every elementwise model against its equations in numpy and complex numbers, step by step and in parallel."""

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slow import slow

import seqjax as sj
from seqjax.gradients import Full
from seqjax.gradients import unroll as scan_step
from seqjax.models import LRU, RTU, SSM, IndRNN, MinGRU, MinLSTM
from seqjax.models.layered import CellState
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit

B, V, H = 2, 5, 4
SPEC = sj.Spec(sj.Tokens(V))
VALUES = sj.Spec(sj.Values(3), sj.Values(2))


# The equations take numpy or jax.numpy.
def sigmoid(np, x):
    return 1 / (1 + np.exp(-x))


def g(np, x):
    return np.where(x >= 0, x + 0.5, sigmoid(np, x))


def min_gru(np, u, s, positive=False):
    z, n = np.split(u, 2)
    (h,) = s
    h = (1 - sigmoid(np, z)) * h + sigmoid(np, z) * (g(np, n) if positive else n)
    return (h,), h


def min_lstm(np, u, s, positive=False):
    f, i, n = np.split(u, 3)
    f, i = sigmoid(np, f), sigmoid(np, i)
    h = f / (f + i) * s[0] + i / (f + i) * (g(np, n) if positive else n)
    return (h,), h


def ind_rnn(np, u, s, w):
    h = np.maximum(u + w * s[0], 0)
    return (h,), h


def lru(np, u, s, nu, theta, gamma):
    eigenvalue = np.exp(-np.exp(nu) + 1j * np.exp(theta))
    z = eigenvalue * (s[0] + 1j * s[1]) + np.exp(gamma) * (u[:H] + 1j * u[H:])
    return (z.real, z.imag), np.concatenate([z.real, z.imag])


def rtu(np, u, s, nu, theta):
    r = np.exp(-np.exp(nu))
    (c1, c2), _ = lru(np, u, s, nu, theta, np.log(np.sqrt(1 - r**2)))
    return (c1, c2), np.maximum(np.concatenate([c1, c2]), 0)


def ssm(np, u, s, a, omega, d, D, B=None, C_re=None, C_im=None, N=3):
    s = (s[0] + 1j * s[1]).reshape(N, H)
    if B is None:
        B, C = (
            part[:, None] for part in (u[2 * H : 2 * H + N], u[2 * H + N : 2 * H + 2 * N] + 1j * u[2 * H + 2 * N :])
        )
        d = d + u[H : 2 * H]
    else:
        C = C_re + 1j * C_im
    x, step = u[:H], np.log(1 + np.exp(d))
    s = np.exp(step * (-np.exp(a) + 1j * omega)) * s + step * B * x
    return (s.real.ravel(), s.imag.ravel()), (C * s).real.sum(0) + D * x


MODELS = {
    "min-gru": (MinGRU(hidden=H), min_gru),
    "min-gru, positive": (MinGRU(hidden=H, positive=True), functools.partial(min_gru, positive=True)),
    "min-lstm": (MinLSTM(hidden=H), min_lstm),
    "min-lstm, positive": (MinLSTM(hidden=H, positive=True), functools.partial(min_lstm, positive=True)),
    "ind-rnn": (IndRNN(hidden=H), ind_rnn),
    "lru": (LRU(hidden=H), lru),
    "rtu": (RTU(hidden=H), rtu),
    "ssm": (SSM(hidden=H, states=3), ssm),
    "ssm, selective": (SSM(hidden=H, states=3, selective=True, start="real"), ssm),
}


def drawn(model, spec=SPEC):
    """Parameters in float64, none of which is zero or one, of recurrences that do not forget at once."""
    rng, centers = np.random.default_rng(5), {"nu": -3, "d": -3, "w": 0.5}
    shapes = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    draw = lambda path, a: centers.get(path[-1].key, 0) + 0.3 * rng.normal(size=a.shape)
    return jax.tree.map_with_path(draw, shapes)


def drawn_start(model, rng):
    return model.State(*rng.normal(size=(len(model.State._fields), B, model.units)))


def by_equations(name, params, start, ids, edge_weights, reset):
    """The last state and the outputs of a model of one layer without residual blocks, row by row."""
    model, equations = MODELS[name]
    layer = params["layer_0"]

    def row(start, *inputs):
        def step(state, inputs):
            x, weight, is_first = inputs
            state = [jnp.where(is_first, 0, weight * a + jax.lax.stop_gradient(a - weight * a)) for a in state]
            state, out = equations(jnp, layer["W_xh"][x] + layer["b_h"], state, **layer.get("cell", {}))
            return model.State(*state), out @ params["W_hq"] + params["b_q"]

        return jax.lax.scan(step, start, inputs)

    with jax.numpy_dtype_promotion("standard"):  # complex numbers times reals
        return jax.vmap(row, (0, 1, 1, 1), (0, 1))(start, ids, edge_weights, reset)


def is_quick(name, parallel, num_steps, rows):
    """Of an equation in two variants one is quick here; the other one is in a test of resets, or beside PyTorch."""
    return num_steps == 6 and rows == "each" and name in QUICK[parallel]


QUICK = {False: ("min-lstm", "ind-rnn", "rtu", "ssm"), True: ("min-gru", "lru")}


@pytest.mark.parametrize(
    ("name", "parallel", "num_steps", "rows"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (not is_quick(*case)))
        for case in itertools.product(MODELS, (False, True), (6, 1, 2, 4_096), ("each", "all"))
        if "each" in case or 6 in case
    ],
)
def test_values_and_gradients_are_those_of_the_equations(name, parallel, num_steps, rows, x64):
    """With an edge weight for each step, or for each row and step."""
    rng, model = np.random.default_rng(1), replace(MODELS[name][0], parallel=parallel)
    ids = rng.integers(0, V, (num_steps, B))
    edge_weights = rng.choice([0.0, 1.0, 1.7, 0.4], num_steps if rows == "all" else (num_steps, B))

    def of_model(params, start):
        end, outputs = model.unroll(params, CellState((start,)), jnp.asarray(ids), jnp.asarray(edge_weights))
        return end.layers[0], outputs

    def of_equations(params, start):
        of_rows = np.broadcast_to(edge_weights.reshape(num_steps, -1), (num_steps, B))
        return by_equations(name, params, start, ids, of_rows, np.zeros((num_steps, B), bool))

    @quick_jit
    def both(*args):
        def scored(run, *args):
            end, outputs = run(*args)
            return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(a**2) for a in end), (end, outputs)

        return [
            jax.grad(functools.partial(scored, run), (0, 1), has_aux=True)(*args) for run in (of_model, of_equations)
        ]

    assert_close(*both(drawn(model), drawn_start(model, rng)), f"gradients and values, parallel={parallel}")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "ssm, selective")) for n in MODELS])
def test_resets_start_the_state_of_the_equations_anew(name, x64):
    model = replace(MODELS[name][0], parallel=False)
    params, rng = drawn(model), np.random.default_rng(3)
    ids, targets = rng.integers(0, V, (2, 6, B))
    reset = rng.random((6, B)) < 0.3
    problem = model.problem(SPEC)
    zeros = model.State(*np.zeros((len(model.State._fields), B, model.units)))

    def by_hand(params):
        _, outputs = by_equations(name, params, zeros, ids, np.ones((6, B)), reset)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[..., None], -1))

    @quick_jit
    def both(params):
        start = problem.init_rows(params, B)
        found = sj.estimate(problem, Full(), batched=True)(params, start, (ids, targets), reset=jnp.asarray(reset))
        return (found.loss, found.grads), jax.value_and_grad(by_hand)(params)

    assert_close(*both(params), "with resets")


@pytest.mark.parametrize("num_steps", [16, *slow(64, 4_096)])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "min-gru")) for n in MODELS])
def test_in_float32_errors_are_about_those_of_a_scan_of_the_step(name, num_steps):
    model, _ = MODELS[name]
    rng = np.random.default_rng(4)
    ids = rng.integers(0, V, (num_steps, B)).astype(np.int32)
    given = drawn(model), CellState((drawn_start(model, rng),))

    def run(model, unroll, dtype=np.float32):
        def of(params, state):
            end, outputs = unroll(model, params, state, jnp.asarray(ids), None)
            return jnp.mean(jnp.sin(outputs)), (outputs, end)

        args = jax.tree.map(lambda a: a.astype(dtype), given)
        return quick_jit(jax.value_and_grad(of, (0, 1), has_aux=True))(*args)

    with jax.enable_x64(True):
        want = run(model, of_steps, float)
    bound = 1e-5 if num_steps <= 64 else 10 * relative_error(run(model, of_steps), want)
    for parallel in (False, True):
        error = relative_error(run(replace(model, parallel=parallel), own_unroll), want)
        assert error <= bound, (parallel, error, bound)


def relative_error(got, want):
    """The largest error of a leaf, by the largest number of that leaf."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    pairs = [(np.asarray(x, float), np.asarray(y)) for x, y in pairs]
    return max(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30) for x, y in pairs)


def losses(model, params, start, xs, edge_weights, unroll):
    end, outputs = unroll(model, params, start, xs, edge_weights)
    return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(a**2) for a in jax.tree.leaves(end.layers))


def own_unroll(model, params, start, xs, edge_weights):
    return model.unroll(params, start, xs, edge_weights)


def of_steps(model, params, start, xs, edge_weights):
    return scan_step(functools.partial(model.step, params), start, xs, edge_weights)


@pytest.mark.parametrize(
    ("cls", "residual"),
    [(IndRNN, True), *slow((MinGRU, False), (IndRNN, False), (LRU, True), (SSM, False), (SSM, True))],
)
def test_layers_dropout_and_embedding(cls, residual, x64):
    model = cls(hidden=H, layers=2, residual=residual, dropout=0.3, embedding=3)
    params, ids = drawn(model), jnp.asarray(np.random.default_rng(1).integers(0, V, (6, B)))

    @quick_jit
    def both(params):
        start = jax.vmap(lambda key: model.init_state(params, SPEC, key))(jax.random.split(jax.random.key(1), B))
        of = lambda unroll: jax.value_and_grad(lambda p: losses(model, p, start, ids, None, unroll))(params)
        return of(own_unroll), of(of_steps)

    assert_close(*both(params), "two layers")


def test_a_residual_layer_is_that_of_its_equation(x64):
    model = LRU(hidden=H, residual=True, parallel=False)
    params = drawn(model, VALUES)
    xs = np.random.default_rng(1).normal(size=(5, 1, 3))

    @quick_jit
    def run(params, xs):
        start = jax.vmap(lambda _: model.init_state(params, VALUES))(jnp.arange(1))
        return model.unroll(params, start, xs)[1]

    layer, state, want = params["layer_0"], (np.zeros(H), np.zeros(H)), []
    for x in xs[:, 0]:
        x = x @ params["W_in"] + params["b_in"]
        z = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * layer["scale"] + layer["shift"]
        state, out = lru(np, z @ layer["W_xh"] + layer["b_h"], state, **layer["cell"])
        y = out @ layer["W_y"] + layer["D"] * z
        y = y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2
        o, gate = np.split(y @ layer["W_o"] + layer["b_o"], 2)
        want.append((x + o * sigmoid(np, gate)) @ params["W_hq"] + params["b_q"])
    assert_close(run(params, xs)[:, 0], np.stack(want), "outputs")


@pytest.mark.parametrize("cls", [LRU, RTU])
def test_the_recurrence_is_stable_and_starts_in_its_ring(cls):
    model = cls(hidden=4_000, r_min=0.9, r_max=0.999, max_phase=0.3)

    @quick_jit
    def run(key):
        own = model.init_cell(key)
        at = lambda u, *state, **changed: model.cell(jnp.full(8_000, u), model.State(*state), **(own | changed))
        zeros, ones = jnp.zeros(4_000), jnp.ones(4_000)
        wild = {"nu": own["nu"] + 5}, {"nu": own["nu"] - 50}, {"theta": own["theta"] + 9}
        return own, at(1.0, zeros, zeros), at(0.0, ones, zeros), [at(0.0, ones, ones, **changed) for changed in wild]

    own, of_input, of_state, changed = jax.tree.map(np.asarray, run(jax.random.key(0)))
    size, phase = np.exp(-np.exp(own["nu"])), np.exp(own["theta"])
    assert 0.9 <= size.min() < 0.902
    assert 0.997 < size.max() <= 0.9991
    assert abs(np.mean(size**2) - (0.9**2 + 0.999**2) / 2) < 0.002  # uniform in the ring
    assert 0 < phase.min() < 0.001
    assert 0.29 < phase.max() <= 0.3
    # Without an input that repeats itself, the state keeps the size of its input: its mean square v solves
    # v = |λ|² v + (factor of the input)².
    for of_part in of_input:
        np.testing.assert_allclose(of_part**2 / (1 - np.hypot(*of_state) ** 2), 1, rtol=1e-3)
    for after in changed:
        assert np.max(np.hypot(*after)) <= np.sqrt(2) * 1.000001


@pytest.mark.parametrize("start", ["lin", "real"])
def test_a_state_space_model_starts_as_its_docstring_says(start):
    init = quick_jit(SSM(hidden=2_000, states=3, start=start).init_cell)
    own = jax.tree.map(np.asarray, init(jax.random.key(0)))
    A = -np.exp(own["a"]) + 1j * own["omega"]
    want = [-0.5, -0.5 + 1j * np.pi, -0.5 + 2j * np.pi] if start == "lin" else [-1, -2, -3]
    np.testing.assert_allclose(A, np.tile(np.array(want)[:, None], 2_000), rtol=1e-6)
    steps = np.log(np.log1p(np.exp(np.float64(own["d"]))))
    assert np.log(0.001) - 1e-4 <= steps.min() < np.log(0.00102)
    assert np.log(0.098) < steps.max() <= np.log(0.1) + 1e-4
    assert abs(steps.mean() - np.log(0.01)) < 0.1


def test_factors_that_are_the_same_at_all_steps_have_no_axis_of_steps():
    from seqjax.models.elementwise import coefficients

    for model, has_axis in ((LRU(hidden=H), False), (MinGRU(hidden=H), True), (SSM(hidden=H, states=3), False)):
        of = lambda u, key, model=model: coefficients(model, u, model.init_cell(key))
        A, b = jax.eval_shape(of, np.ones((7, B, model.width), np.float32), jax.random.key(0))
        assert {a.ndim == 3 for row in A for a in row} == {has_axis}
        assert b[0].shape == (7, B, model.units)

"""Every elementwise model against its equations in numpy and complex numbers, step by step and in parallel."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax.models.layered import CellState
from seqjax.testing.compare import assert_close
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import Full
from seqjax_models import LRU, RTU, SSM, IndRNN, MinGRU, MinLSTM

B, V, H = 2, 5, 4
SPEC = sj.Spec(sj.Tokens(V))
VALUES = sj.Spec(sj.Values(3), sj.Values(2))


# The equations take numpy, or jax.numpy where they are differentiated.
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
EACH = pytest.mark.parametrize("name", MODELS)


def varied(params, seed=5):
    """Parameters in float64, none of which is zero or one."""
    leaves, treedef = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return treedef.unflatten([jnp.asarray(a, float) + 0.1 * rng.normal(size=a.shape) for a in leaves])


def by_equations(np, model, equations, params, start, ids, reset=None):
    """The outputs of one sequence of a model of one layer without residual blocks, and its last state."""
    layer = params["layer_0"]
    state, outputs = start, []
    for t, x in enumerate(ids):
        if reset is not None:
            state = tuple(np.where(reset[t], 0 * a, a) for a in state)
        state, out = equations(np, layer["W_xh"][x] + layer["b_h"], state, **layer.get("cell", {}))
        outputs.append(out @ params["W_hq"] + params["b_q"])
    return np.stack(outputs), state


def ways(model):
    """The model step by step and in parallel."""
    return {parallel: replace(model, parallel=parallel) for parallel in (False, True)}


@EACH
def test_values_and_gradients_are_those_of_the_equations(name, x64):
    model, equations = MODELS[name]
    params = varied(model.init(jax.random.key(0), SPEC))
    rng = np.random.default_rng(1)
    ids = rng.integers(0, V, (6, B))
    start = model.State(*rng.normal(size=(len(model.State._fields), B, model.units)))
    row = functools.partial(by_equations, model=model, equations=equations)

    def total(outputs, end):
        return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(a**2) for a in end)

    def differentiated(params, start):
        return total(*jax.vmap(lambda start, ids: row(jnp, params=params, start=start, ids=ids), (0, 1))(start, ids))

    rows = [
        row(np, params=jax.tree.map(np.asarray, params), start=[a[i] for a in start], ids=ids[:, i]) for i in (0, 1)
    ]
    want = np.stack([rows[0][0], rows[1][0]], 1), model.State(*np.stack([rows[0][1], rows[1][1]], 1))
    with jax.numpy_dtype_promotion("standard"):  # complex numbers times reals
        want_grads = quick_jit(jax.grad(differentiated, (0, 1)))(params, jax.tree.map(jnp.asarray, start))
    for parallel, way in ways(model).items():

        def run(params, start, way=way):
            end, outputs = way.unroll(params, CellState((start,)), jnp.asarray(ids))
            return total(outputs, end.layers[0]), (outputs, end.layers[0])

        grads, values = quick_jit(jax.grad(run, (0, 1), has_aux=True))(params, jax.tree.map(jnp.asarray, start))
        assert_close(values, want, f"values, parallel={parallel}")
        assert_close(grads, want_grads, f"gradients, parallel={parallel}")


@EACH
def test_resets_start_the_state_of_the_equations_anew(name, x64):
    model, equations = MODELS[name]
    params = varied(model.init(jax.random.key(0), SPEC))
    rng = np.random.default_rng(3)
    ids, targets = rng.integers(0, V, (2, 6, B))
    reset = rng.random((6, B)) < 0.3
    problem = model.problem(SPEC)
    start = problem.init_rows(params, B)

    def by_hand(params):
        zero = [jnp.zeros(model.units)] * len(model.State._fields)
        row = lambda ids, reset: by_equations(jnp, model, equations, params, zero, ids, reset)[0]
        outputs = jax.vmap(row, 1, 1)(ids, reset)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[..., None], -1))

    with jax.numpy_dtype_promotion("standard"):
        want = quick_jit(jax.value_and_grad(by_hand))(params)
    found = quick_jit(sj.value_and_grad(problem, Full()))(params, start, (ids, targets), reset=jnp.asarray(reset))
    assert_close((found.loss, found.grads), want, "with resets")


@pytest.mark.parametrize("num_steps", [64, pytest.param(4_096, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "lru")) for n in MODELS])
def test_in_float32_errors_are_about_those_of_a_scan_of_the_step(name, num_steps):
    model, _ = MODELS[name]
    rng = np.random.default_rng(4)
    ids = jnp.asarray(rng.integers(0, V, (num_steps, B)))
    start = CellState((model.State(*rng.normal(size=(len(model.State._fields), B, model.units))),))

    with jax.enable_x64(True):
        drawn = jax.tree.map(np.asarray, varied(model.init(jax.random.key(0), SPEC)))

    def run(model, unroll, dtype):
        params, state = jax.tree.map(lambda a: jnp.asarray(a, dtype), (drawn, start))

        def of(params, state):
            end, outputs = unroll(model, params, state, ids, None)
            return jnp.mean(jnp.sin(outputs)), (outputs, end)

        return quick_jit(jax.value_and_grad(of, (0, 1), has_aux=True))(params, state)

    with jax.enable_x64(True):
        want = run(model, of_steps, jnp.float64)
    scan = relative_error(run(model, of_steps, jnp.float32), want)
    for parallel, way in ways(model).items():
        error = relative_error(run(way, own_unroll, jnp.float32), want)
        assert error <= (1e-5 if num_steps == 64 else 10 * scan), (parallel, error, scan)


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
    return sj.Model.unroll(model, params, start, xs, edge_weights)


@EACH
@pytest.mark.parametrize("num_steps", [13, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4_096))])
@pytest.mark.parametrize("rows", ["each", pytest.param("all", marks=pytest.mark.slow)])
def test_gradients_with_edge_weights_are_those_of_the_scan_of_the_step(name, num_steps, rows, x64):
    model, _ = MODELS[name]
    params = varied(model.init(jax.random.key(0), SPEC))
    rng = np.random.default_rng(2)
    ids = jnp.asarray(rng.integers(0, V, (num_steps, B)))
    edge_weights = jnp.asarray(rng.random(num_steps if rows == "all" else (num_steps, B)) * 1.2)
    start = CellState((model.State(*jnp.asarray(rng.normal(size=(len(model.State._fields), B, model.units)))),))

    def run(model, unroll):
        of = lambda params, start: losses(model, params, start, ids, edge_weights, unroll)
        return quick_jit(jax.value_and_grad(of, (0, 1)))(params, start)

    want = run(model, of_steps)
    for parallel, way in ways(model).items():
        assert_close(run(way, own_unroll), want, f"parallel={parallel}")


@pytest.mark.parametrize(
    ("cls", "residual"),
    [
        (LRU, True),
        (MinGRU, False),
        *(pytest.param(cls, each, marks=pytest.mark.slow) for cls in (SSM, IndRNN) for each in (False, True)),
    ],
)
def test_layers_dropout_and_embedding(cls, residual, x64):
    model = cls(hidden=H, layers=3, residual=residual, dropout=0.3, embedding=3)
    params = varied(model.init(jax.random.key(0), SPEC))
    start = jax.vmap(lambda key: model.init_state(params, SPEC, key))(jax.random.split(jax.random.key(1), B))
    ids = jnp.asarray(np.random.default_rng(1).integers(0, V, (6, B)))

    def run(unroll):
        return quick_jit(jax.value_and_grad(lambda p: losses(model, p, start, ids, None, unroll)))(params)

    assert_close(run(own_unroll), run(of_steps), "three layers")


def test_a_residual_layer_is_that_of_its_equation(x64):
    model = LRU(hidden=H, residual=True)
    params = varied(model.init(jax.random.key(0), VALUES))
    xs = np.random.default_rng(1).normal(size=(5, 1, 3))
    outputs = model.unroll(
        params, jax.vmap(lambda _: model.init_state(params, VALUES))(jnp.arange(1)), jnp.asarray(xs)
    )[1]
    p = jax.tree.map(np.asarray, params)
    layer, state, want = p["layer_0"], (np.zeros(H), np.zeros(H)), []
    for x in xs[:, 0]:
        x = x @ p["W_in"] + p["b_in"]
        z = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * layer["scale"] + layer["shift"]
        state, out = lru(np, z @ layer["W_xh"] + layer["b_h"], state, **layer["cell"])
        y = np.asarray(jax.nn.gelu(out @ layer["W_y"] + layer["D"] * z))
        o, gate = np.split(y @ layer["W_o"] + layer["b_o"], 2)
        want.append((x + o * sigmoid(np, gate)) @ p["W_hq"] + p["b_q"])
    assert_close(outputs[:, 0], np.stack(want), "outputs")


@pytest.mark.parametrize("cls", [LRU, RTU])
def test_the_recurrence_is_stable_and_starts_in_its_ring(cls):
    model = cls(hidden=4_000, r_min=0.9, r_max=0.999, max_phase=0.3)
    own = model.init_cell(jax.random.key(0))
    size, phase = np.exp(-np.exp(own["nu"])), np.exp(own["theta"])
    assert 0.9 <= size.min() < 0.902
    assert 0.997 < size.max() <= 0.9991
    assert abs(np.mean(size**2) - (0.9**2 + 0.999**2) / 2) < 0.002  # uniform in the ring
    assert 0 < phase.min() < 0.001
    assert 0.29 < phase.max() <= 0.3
    # Without an input that repeats itself, the state keeps the size of its input.
    u = jax.random.normal(jax.random.key(1), (3_000, 1, 8_000))
    start = model.State(*jnp.zeros((2, 1, 4_000)))
    state, _ = jax.lax.scan(lambda s, u: (model.cell(u, s, **own), None), start, u)
    assert abs(np.mean(np.square(state)) - 1) < 0.1
    for wild in ({"nu": own["nu"] + 5}, {"nu": own["nu"] - 50}, {"theta": own["theta"] + 9}):
        changed = own | wild
        after = model.cell(0 * u[0, 0], model.State(*jnp.ones((2, 4_000))), **changed)
        assert np.max(np.hypot(*after)) <= np.sqrt(2) * 1.000001


@pytest.mark.parametrize("start", ["lin", "real"])
def test_a_state_space_model_starts_as_its_docstring_says(start):
    own = jax.tree.map(np.asarray, SSM(hidden=2_000, states=3, start=start).init_cell(jax.random.key(0)))
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
        A, b = coefficients(model, jnp.ones((7, B, model.width)), model.init_cell(jax.random.key(0)))
        assert {a.ndim == 3 for row in A for a in row} == {has_axis}
        assert b[0].shape == (7, B, model.units)

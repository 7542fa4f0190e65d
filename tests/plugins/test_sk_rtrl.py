"""sk-rtrl from its definition by singular value decompositions, its limits, and the bound that it carries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.influence import B, H, V, by_hand, of_model, run, with_a_reset

import seqjax as sj
from seqjax.gradients import Batch, init_memory, leaf_names, ravel_float
from seqjax.testing.compare import Failed, assert_close, assert_far
from seqjax.testing.proofs.calls import call
from seqjax_gradients import RTRL, SKRTRL, SnAp, sk_rtrl
from seqjax_models import GRU, LRU, LSTM, RNN

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))
MODELS = {"rnn": (RNN(hidden=H), TOKENS), "gru": (GRU(hidden=H), VALUES), "lstm": (LSTM(hidden=H), TOKENS)}


def units_of(c):
    """For each number of the state and each parameter its unit; -1 for a parameter of the read-out."""
    units = [
        np.arange(a.size) % H if name.startswith("layer_0") else np.full(a.size, -1)
        for name, a in leaf_names(c.params, "params")
    ]
    return np.tile(np.arange(H), len(c.problem.model.State._fields)), np.concatenate(units)


def sketched(c, rank):
    """The rule of the docstring with dense matrices, and the true matrix beside it."""
    of_state, of_params = units_of(c)
    within = of_state[:, None] == of_state

    class Sketched:
        def __init__(self, size, num_params):
            self.N, self.rest, self.true = np.zeros((3, size, num_params))
            self.e = 0.0

        M = property(lambda self: self.N + self.rest)

        def begin(self, I):
            assert not I.any()

        def advance(self, J, I):
            U, d, V = np.linalg.svd(J @ self.rest + np.where(within, 0, J) @ self.N, full_matrices=False)
            self.rest, self.N = (U[:, :rank] * d[:rank]) @ V[:rank], np.where(within, J, 0) @ self.N + I
            largest = np.sum(np.linalg.svd(J, compute_uv=False) ** 32) ** (1 / 32)
            assert np.linalg.norm(J, 2) <= largest * (1 + 1e-12)
            self.true, self.e = J @ self.true + I, largest * self.e + np.linalg.norm(d[rank:])
            assert not I[of_state[:, None] != of_params].any()
            assert np.linalg.norm(self.true - self.M) <= self.e * (1 + 1e-9) + 1e-12

    return Sketched


@pytest.mark.parametrize(
    ("name", "rank"),
    [("gru", 1), ("lstm", 2), *(pytest.param(n, r, marks=pytest.mark.slow) for n in MODELS for r in (0, 1, 2))],
)
def test_it_is_that_of_the_definition(x64, name, rank):
    c, steps = of_model(*MODELS[name])
    assert_close(run(SKRTRL(rank=rank), c), by_hand(c, steps, sketched(c, rank)), name, 1e-9)


@pytest.mark.parametrize("size", [3, 1024])
@pytest.mark.parametrize("kind", ["orthogonal", "one direction", "zero"])
def test_the_bound_of_the_jacobian_holds_in_float32(size, kind):
    """Powers of the eigenvalues must not underflow, as they do in a large network if the trace is divided by."""
    rng = np.random.default_rng(0)
    J = {
        "orthogonal": lambda: np.linalg.qr(rng.normal(size=(size, size)))[0],
        "one direction": lambda: np.outer(rng.normal(size=size), rng.normal(size=size)),
        "zero": lambda: np.zeros((size, size)),
    }[kind]()
    largest = np.linalg.norm(J, 2)
    bound = float(sk_rtrl._largest_stretch(jnp.asarray(J, jnp.float32)))
    assert largest * (1 - 1e-5) <= bound <= largest * size ** (1 / 32) * (1 + 1e-5)


@pytest.mark.parametrize("name", ["lstm", pytest.param("rnn", marks=pytest.mark.slow)])
def test_at_full_rank_it_is_rtrl(x64, name):
    c, _ = of_model(*MODELS[name])
    assert_close(run(SKRTRL(rank=100), c), run(RTRL(), c), name, 1e-12)


@pytest.mark.parametrize("name", [pytest.param("rnn", marks=pytest.mark.slow), "gru", "lstm"])
def test_at_rank_0_it_is_snap_if_a_unit_has_one_number(x64, name):
    """An LSTM has two, and SnAp-1 leaves out the c of the own unit where a parameter of the output gate reaches it."""
    c, _ = of_model(*MODELS[name])
    compare = assert_far if name == "lstm" else functools.partial(assert_close, bound=1e-12)
    compare(run(SKRTRL(rank=0), c), run(SnAp(), c), name)


@pytest.mark.slow
def test_elementwise_units_leave_nothing_out(x64):
    c, _ = of_model(LRU(hidden=H), TOKENS)
    strategy = SKRTRL(rank=1)
    assert_close(run(strategy, c), run(RTRL(), c), "lru", 1e-12)
    assert float(strategy.metrics(last_memory(strategy, c))["gradient_certificate"]) == 0


def last_memory(strategy, c):
    state, memory = c.state, init_memory(strategy, c.problem, c.params, c.state, B)
    for batch in c.windows:
        e = call(strategy, c.problem, c.params, state, memory, batch, None)
        state, memory = e.state, e.memory
    return memory


@pytest.mark.parametrize(("name", "rank"), [("lstm", 1), ("gru", 0), pytest.param("gru", 1, marks=pytest.mark.slow)])
def test_the_metrics_are_the_bounds_of_the_definition(x64, name, rank):
    """The mean over rows of e, and of e by the norm of the matrix."""
    c, steps = of_model(*MODELS[name])
    rows = []
    sketch = sketched(c, rank)

    def kept(*shape):
        rows.append(sketch(*shape))
        return rows[-1]

    by_hand(c, steps, kept)
    strategy = SKRTRL(rank=rank)
    found = strategy.metrics(last_memory(strategy, c))
    last = [rows[0], rows[2]]  # row 1 has begun anew in the second window
    assert len(rows) == 3
    e, relative = [row.e for row in last], [row.e / np.linalg.norm(row.M) for row in last]
    np.testing.assert_allclose(found["gradient_certificate"], np.mean(e), rtol=1e-6)
    np.testing.assert_allclose(found["gradient_certificate_relative"], np.mean(relative), rtol=1e-6)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", ["rnn", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_reset_inside_of_a_window_begins_anew(x64, name, at):
    """The certificate, too: what rows carry contains it."""
    c, _ = of_model(*MODELS[name])
    found, want = with_a_reset(SKRTRL(rank=1), c, at)
    assert_close(found, want, name, 1e-9)
    assert found[3].error.min() > 0


def follow(strategy, key, num_steps, largest, hidden=16, reset_every=200):
    """Online learning of a Hénon series; at each step e, the true error of the matrix, and the norm of the true one.

    After each update |W_hh|₂ is at most `largest`; None: it may be anything.
    """
    problem = RNN(hidden=hidden, initializer="uniform").problem(sj.Spec(sj.Values(1), sj.Values(1)))
    xs, x, y = [], 0.1, 0.0
    for _ in range(num_steps + 1):
        xs.append(x)
        x, y = 1 - 1.4 * x**2 + y, 0.3 * x
    series = jnp.asarray(xs, jnp.result_type(float))[:, None, None]
    params = problem.init(key)
    state = problem.init_rows(params, 1)
    layer_size = sum(a.size for a in jax.tree.leaves(params["layer_0"]))

    def dense(sketch):
        """N + L R, float[S, P], for the parameters of the layer."""

        def leaf(own, R):
            by_unit = jnp.einsum("nh,hk->knh", own[0], jnp.eye(hidden, dtype=own.dtype))
            return (by_unit + jnp.einsum("sa,anh->snh", sketch.L, R)).reshape(hidden, -1)

        return jnp.concatenate(
            [leaf(*each) for each in zip(*map(jax.tree.leaves, (sketch.own, sketch.R)), strict=True)], 1
        )

    def step(carry, inputs):
        params, state, memory, true = carry
        t, x, y = inputs
        reset = jnp.broadcast_to(t % reset_every == 0, 1)
        batch = Batch((x[None], y[None]), jnp.ones((1, 1)), reset, jnp.zeros(1, jnp.int32))
        estimate = strategy(problem, params, state, memory, batch)

        def after(layer, s):
            new, _ = problem.step(params | {"layer_0": layer}, join(s, others), (x[0], y[0]))
            return ravel_float(new)[0]

        first = problem.start(params, state, reset)
        s, others, join = ravel_float(jax.tree.map(lambda a: a[0], first))
        by_layer, J = jax.jacrev(after, (0, 1))(params["layer_0"], s)
        I = jnp.concatenate([a.reshape(hidden, -1) for a in jax.tree.leaves(by_layer)], 1)
        true = J @ jnp.where(reset, 0, true) + I
        sketch = jax.tree.map(lambda a: a[0], estimate.memory.rows)
        params = jax.tree.map(lambda a, g: a - 0.02 * g, params, estimate.grads)
        if largest is not None:  # |J|₂ is at most |W_hh|₂
            W_hh = params["layer_0"]["W_hh"]
            params["layer_0"]["W_hh"] = W_hh * jnp.minimum(1, largest / jnp.linalg.norm(W_hh, 2))
        return (params, estimate.state, estimate.memory, true), (
            sketch.error,
            jnp.linalg.norm(true - dense(sketch)),
            jnp.linalg.norm(true),
        )

    memory = init_memory(strategy, problem, params, state, 1)
    start = params, state, memory, jnp.zeros((hidden, layer_size))
    return jax.lax.scan(step, start, (jnp.arange(num_steps), series[:-1], series[1:]))[1]


@pytest.mark.parametrize("steps", [300, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("largest", [0.9, None])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_bound_holds_at_every_step_while_parameters_change(steps, largest, precision):
    """Up to rounding, which the bound does not count: the true matrix is computed with rounding errors, too."""
    with jax.enable_x64(precision == "float64"):
        run_all = jax.jit(jax.vmap(lambda key: follow(SKRTRL(rank=4), key, steps, largest)))
        bound, error, size = map(np.asarray, run_all(jax.random.split(jax.random.key(0), 5)))
    slack = 1e-12 if precision == "float64" else 2e-6
    assert bound.shape == (5, steps)
    assert (error <= bound + slack * size).all()
    ratio = np.median((bound / size)[:, 5:])
    print(f"{precision}, {largest}: bound {ratio:.1e}, error {np.median((error / size)[:, 5:]):.1e} of |M|, medians")
    if largest is not None:
        assert ratio < 3, "the bound says something"


def test_rounding_comes_on_top_of_the_bound():
    """Where nothing is left out the bound is zero, and the error that of float32."""
    bound, error, size = map(np.asarray, jax.jit(lambda key: follow(SKRTRL(rank=16), key, 60, 0.9))(jax.random.key(0)))
    assert size.dtype == np.float32
    assert (bound == 0).all()
    assert 0 < error.max() < 2e-6 * size.max()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_may_be_of_half_precision(dtype):
    """Eigenvectors are those of float32. The gradient is that of the same numbers in float32, up to their rounding."""
    problem = LSTM(hidden=16).problem(VALUES)
    keys = jax.random.split(jax.random.key(0), 3)
    xs = tuple(jax.random.normal(key, (12, B, 2)).astype(dtype) for key in keys[1:])
    params = jax.tree.map(lambda a: a.astype(dtype), problem.init(keys[0]))
    found = []
    for precision in (dtype, "float32"):
        p, x = jax.tree.map(lambda a, precision=precision: a.astype(precision), (params, xs))
        e = jax.jit(sj.value_and_grad(problem, SKRTRL(rank=2)))(p, problem.init_rows(p, B), x)
        assert all(a.dtype == precision for a in jax.tree.leaves((e.grads, e.memory.rows.own)))
        found.append((e.grads, SKRTRL(rank=2).metrics(e.memory)))
    (grads, half), (want, single) = jax.tree.map(lambda a: np.asarray(a, np.float64), found)
    assert_close(grads, want, dtype, bound=0.1)
    assert_close(half, single, dtype, bound=0.1)


@pytest.mark.parametrize("fault", ["smallest", "not carried", "twice", "no new part"])
def test_planted_faults_are_found(x64, fault, monkeypatch):
    c, steps = of_model(*MODELS["rnn"])
    next_of = SKRTRL._next

    def faulty(self, sketch, J, I, hidden):
        new = next_of(self, sketch, J, I, hidden)
        if fault == "not carried":
            return next_of(self, sketch._replace(L=0 * sketch.L), J, I, hidden)
        if fault == "twice":
            return new._replace(own=jax.tree.map(lambda m, i: m + 1e-3 * i, new.own, I))
        if fault == "no new part":
            return next_of(self, sketch, J * jnp.eye(len(J)), I, hidden)
        U = jnp.roll(jnp.linalg.eigh(J @ J.T)[1], 1, axis=1)[:, : new.L.shape[1]]
        return new._replace(L=U)

    monkeypatch.setattr(SKRTRL, "_next", faulty)
    jax.clear_caches()
    with pytest.raises(Failed):
        assert_close(run(SKRTRL(rank=1), c), by_hand(c, steps, sketched(c, 1)), fault, 1e-6)
    jax.clear_caches()


@pytest.mark.parametrize("fields", [{"layers": 2}, {"embedding": 2}], ids=repr)
def test_other_networks_are_refused(fields):
    problem = sj.Problem.of(RNN(hidden=H, **fields), TOKENS)
    params = problem.init(jax.random.key(0))
    with pytest.raises(sj.Error, match="takes a `Cell` or `Elementwise` of one layer"):
        init_memory(SKRTRL(), problem, params, problem.init_rows(params, B), B)

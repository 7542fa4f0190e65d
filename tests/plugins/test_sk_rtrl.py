"""sk-rtrl from its definition by singular value decompositions, its limits, and the bound that it carries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.influence import B, H, Rtrl, V, by_hand, estimates, follow, of_model, run, summary, with_a_reset

import seqjax as sj
from seqjax.gradients import SKRTRL, Batch, SnAp, init_memory, leaf_names, ravel_float
from seqjax.models import GRU, LRU, LSTM, RNN
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.influence import sk_rtrl

TOKENS, VALUES = sj.Spec(sj.Tokens(V)), sj.Spec(sj.Values(2))
MODELS = {"rnn": (RNN(hidden=H), TOKENS), "gru": (GRU(hidden=H), VALUES), "lstm": (LSTM(hidden=H), VALUES)}


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
    [("lstm", 2), ("rnn", 0), *(pytest.param(n, r, marks=pytest.mark.slow) for n in MODELS for r in (0, 1, 2))],
)
def test_it_is_that_of_the_definition(x64, name, rank):
    c, steps = of_model(*MODELS[name])
    assert_close(run(SKRTRL(rank=rank), c), by_hand(c, steps, sketched(c, rank)), name, 1e-9)


@pytest.mark.parametrize("size", [3, 1024])
def test_the_bound_of_the_jacobian_holds_in_float32(size):
    """Powers of the eigenvalues must not underflow, as they do in a large network if the trace is divided by."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, size))
    orthogonal = np.eye(size) - 2 * np.outer(u, u) / (u @ u)
    one_direction, zero = np.outer(u, v), np.zeros((size, size))
    largest_stretch = quick_jit(sk_rtrl._largest_stretch)
    norms = 1, np.linalg.norm(u) * np.linalg.norm(v), 0
    for J, largest in zip((orthogonal, one_direction, zero), norms, strict=True):
        bound = float(largest_stretch(J.astype(np.float32)))
        assert largest * (1 - 1e-5) <= bound <= largest * size ** (1 / 32) * (1 + 1e-5)


@pytest.mark.parametrize("name", ["rnn", pytest.param("lstm", marks=pytest.mark.slow)])
def test_at_full_rank_it_is_rtrl(x64, name):
    c, steps = of_model(*MODELS[name])
    found = estimates(SKRTRL(rank=100), c)
    assert_close(summary(found), by_hand(c, steps, Rtrl), name, 1e-12)
    assert not np.any(found.memory.rows.error)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_at_rank_0_it_is_snap_if_a_unit_has_one_number(x64, name):
    """An LSTM has two, and SnAp-1 leaves out the c of the own unit where a parameter of the output gate reaches it."""
    c, _ = of_model(*MODELS[name])
    compare = assert_far if name == "lstm" else functools.partial(assert_close, bound=1e-12)
    compare(run(SKRTRL(rank=0), c), run(SnAp(), c), name)


@pytest.mark.slow
def test_elementwise_units_leave_nothing_out(x64):
    c, steps = of_model(LRU(hidden=H), TOKENS)
    found = estimates(SKRTRL(rank=1), c)
    assert_close(summary(found), by_hand(c, steps, Rtrl), "lru", 1e-12)
    assert not np.any(found.memory.rows.error)


@pytest.mark.parametrize(("name", "rank"), [("lstm", 2), ("rnn", 0), pytest.param("gru", 1, marks=pytest.mark.slow)])
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
    last_memory = jax.tree.map(lambda a: np.asarray(a)[-1], estimates(strategy, c).memory)
    found = quick_jit(strategy.metrics)(last_memory)
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


def learn_online(strategy, key, num_steps, largest, hidden=16, reset_every=200):
    """Online learning of a Hénon series; at each step e, the true error of the matrix, and the norm of the true one.

    After each update |W_hh|₂ is at most `largest`, and then |J|₂ is, too.
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
@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_the_bound_holds_at_every_step_while_parameters_change(steps, precision):
    """Up to rounding, which the bound does not count: the true matrix is computed with rounding errors, too."""
    largest = np.array([0.9, np.inf], precision)
    with jax.enable_x64(precision == "float64"):
        one = lambda key, largest: learn_online(SKRTRL(rank=4), key, steps, largest)
        run_all = jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, 10), np.repeat(largest, 5)))
        bound, error, size = (np.asarray(a).reshape(2, 5, -1) for a in run_all(jax.random.key(0)))
    slack = 1e-12 if precision == "float64" else 2e-6
    assert bound.shape == (2, 5, steps)
    assert bound.dtype == precision
    assert (error <= bound + slack * size).all()
    ratios, errors = (np.median((a / size)[:, :, 5:], (1, 2)) for a in (bound, error))
    for limit, ratio, share in zip(largest, ratios, errors, strict=True):
        print(f"{precision}, {limit}: bound {ratio:.1e}, error {share:.1e} of |M|, medians")
    assert ratios[0] < 3, "the bound says something"


@pytest.mark.slow
def test_rounding_comes_on_top_of_the_bound():
    """Where nothing is left out the bound is zero, and the error that of float32."""
    bound, error, size = map(
        np.asarray, jax.jit(lambda key: learn_online(SKRTRL(rank=16), key, 60, 0.9))(jax.random.key(0))
    )
    assert size.dtype == np.float32
    assert (bound == 0).all()
    assert 0 < error.max() < 2e-6 * size.max()


@pytest.mark.parametrize("traced", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_parameters_may_be_of_half_precision(dtype, traced):
    """Eigenvectors are those of float32: JAX traces no others. The gradient is that of the same numbers in float32."""
    problem, strategy = LSTM(hidden=16).problem(VALUES), SKRTRL(rank=2)

    def found(precision):
        keys = jax.random.split(jax.random.key(0), 3)
        xs = tuple(jax.random.normal(key, (12, B, 2)) for key in keys[1:])
        rounded = jax.tree.map(lambda a: a.astype(dtype).astype(precision), (problem.init(keys[0]), xs))
        e = sj.estimate(problem, strategy, batched=True)(rounded[0], problem.init_rows(rounded[0], B), rounded[1])
        assert all(a.dtype == precision for a in jax.tree.leaves((e.grads, e.memory.rows.own)))
        return jax.tree.map(lambda a: a.astype(jnp.float32), (e.grads, strategy.metrics(e.memory)))

    jax.eval_shape(lambda: found(dtype))
    if not traced:
        run = quick_jit(found, static_argnums=0)
        assert_close(run(dtype), run("float32"), dtype, bound=0.1)


FAULTS = ("none", "smallest", "not carried", "twice", "no new part")


class Faulty(SKRTRL):
    """One of the faults in its steps, by a number that may be traced, so that one program serves all of them."""

    def __init__(self, fault):
        super().__init__(rank=1)
        object.__setattr__(self, "has", {name: fault == number for number, name in enumerate(FAULTS)})

    def _next(self, sketch, J, I, hidden):
        has, across = self.has, jnp.where(self.has["no new part"], jnp.eye(len(J)), 1)
        sketch = sketch._replace(L=jnp.where(has["not carried"], 0, sketch.L))
        new = super()._next(sketch, J * across, I, hidden)
        smallest = jnp.roll(jnp.linalg.eigh(J @ J.T)[1], 1, axis=1)[:, : new.L.shape[1]]
        own = jax.tree.map(lambda m, i: m + jnp.where(has["twice"], 1e-3, 0) * i, new.own, I)
        return new._replace(own=own, L=jnp.where(has["smallest"], smallest, new.L))


def test_planted_faults_are_found(x64):
    c, steps = of_model(*MODELS["rnn"])
    want = by_hand(c, steps, sketched(c, 1))
    planted = quick_jit(lambda fault: follow(Faulty(fault), c.problem, c.params, c.state, c.windows))
    assert_close(summary(planted(0)), want, "no fault", 1e-9)
    for number, name in enumerate(FAULTS[1:], 1):
        assert_far(summary(planted(number)), want, name, at_least=1e-6)


@pytest.mark.parametrize("fields", [{"layers": 2}, {"embedding": 2}], ids=repr)
def test_other_networks_are_refused(fields):
    problem = sj.Problem.of(RNN(hidden=H, **fields), TOKENS)
    params = jax.eval_shape(problem.init, jax.random.key(0))
    first = lambda params: init_memory(SKRTRL(), problem, params, problem.init_rows(params, B), B)
    with pytest.raises(sj.Error, match="takes a `Cell` or `Elementwise` of one layer"):
        jax.eval_shape(first, params)

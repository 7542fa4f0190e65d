"""SnAp and RFLO against RTRL, against loops from their definitions, and against each other's way to store M."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.cells import MGU, PeepholeLSTM

import seqjax
from seqjax import Cell, Model, Problem, Spec, Tokens, Values
from seqjax.gradients import Batch, Memory, init_memory, ravel_float
from seqjax.plugin import get
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import _units

pytestmark = pytest.mark.usefixtures("x64")

SnAp, RTRL, RFLO = (get("gradient", name) for name in ("snap", "rtrl", "rflo"))
T, B, H, V = 4, 2, 3, 5


@dataclass(frozen=True)
class Whole(Model):
    """The same model, without the knowledge that its parameters feed one unit each."""

    inner: Cell

    def init_state(self, params, spec, key=None):
        return self.inner.init_state(params, spec, key)

    def step(self, params, state, x):
        return self.inner.step(params, state, x)


class Three(NamedTuple):
    """A state of three leaves."""

    h: Any
    a: Any
    b: Any


@dataclass(frozen=True)
class ThreeLeaves(Cell):
    """Parameters of the first block reach all three leaves, those of the second a and b, those of the third b."""

    blocks = 3
    State = Three

    def cell(self, u, v, state):
        first, second, third = jnp.split(jnp.tanh(u + v), 3, -1)
        h = 0.5 * state.h + first
        a = 0.3 * state.a + h * second - 0.2 * state.b
        return Three(h + 0.1 * state.a, a, 0.6 * state.b + a + third)


class Late(NamedTuple):
    """A state of two leaves."""

    h: Any
    m: Any


@dataclass(frozen=True)
class LateReach(Cell):
    """A parameter reaches m directly only at steps with u > 1, and else one step later, through h."""

    State = Late

    def cell(self, u, v, state):
        return Late(jnp.tanh(u + v) + 0.3 * state.m, 0.5 * state.m + state.h + jax.nn.relu(u - 1))


OWN = {"mgu": MGU(hidden=H), "peephole": PeepholeLSTM(hidden=H), "three leaves": ThreeLeaves(hidden=H)}


def make(name, spec, **fields):
    return OWN[name] if name in OWN else seqjax.create("model", name, hidden=H, **fields)


def setting(model, spec, seed=0):
    """Parameters and states that are not zero, and three windows."""
    rng = np.random.default_rng(seed)
    random = lambda a: jnp.asarray(rng.normal(size=a.shape, scale=0.8))
    params = jax.tree.map(random, model.init(jax.random.key(0), spec))
    if model.layers == 1:
        params["layer_0"]["b_hh"] = random(params["layer_0"]["b_h"])
    state = jax.vmap(lambda _: model.init_state(params, spec))(jnp.arange(B))
    ids = rng.integers(0, V, (3, T, B, 2))
    values = rng.normal(size=(3, T, B, 2))
    xs = [(jnp.asarray(i[..., 0]), jnp.asarray(i[..., 1])) for i in ids]
    if isinstance(spec.inputs, Values):
        xs = [(jnp.asarray(v), jnp.asarray(v[::-1])) for v in values]
    reset = [[True, True], [False, True], [False, False]]
    batches = [
        Batch(x, jnp.asarray(rng.uniform(size=(T, B))), jnp.array(f), jnp.arange(B, dtype=jnp.int32))
        for x, f in zip(xs, reset, strict=True)
    ]
    return params, jax.tree.map(random, state), batches


def run(strategy, problem, params, state, batches):
    """Losses, gradients and states of consecutive windows, with memory carried."""
    memory = init_memory(strategy, problem, params, state, B)
    call, found = quick_jit(functools.partial(strategy, problem)), []
    for batch in batches:
        estimate = call(params, state, memory, batch)
        state, memory = estimate.state, estimate.memory
        found.append(estimate[:3])
    return found


def assert_same(got, want, rtol=1e-12):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, atol=rtol * np.abs(w).max())


TOKENS, VALUES = Spec(Tokens(V)), Spec(Values(2))

QUICK = {("peephole", RFLO(leak=0.3))}
"""SnAp is tested below as well."""
BY_UNITS = [
    pytest.param(name, spec, strategy, marks=[pytest.mark.slow] * ((name, strategy) not in QUICK))
    for name, spec in {"rnn": TOKENS, "gru": VALUES, "lstm": TOKENS, **dict.fromkeys(OWN, TOKENS)}.items()
    for strategy in (SnAp(), RFLO(leak=0.3))
]


@pytest.mark.parametrize(("name", "spec", "strategy"), BY_UNITS)
def test_storing_by_units_changes_nothing(name, spec, strategy):
    model = make(name, spec)
    params, state, batches = setting(model, spec)
    by_units = run(strategy, Problem.of(model, spec), params, state, batches)
    whole = run(strategy, Problem.of(Whole(model), spec), params, state, batches)
    assert_same(by_units, whole)
    rows = init_memory(strategy, Problem.of(model, spec), params, state, B).rows
    numbers = [a.size for a in jax.tree.leaves(rows) if a.dtype == float]  # and not the mask
    assert sum(numbers) == B * len(state.layers[0]) * sum(a.size for a in jax.tree.leaves(params["layer_0"]))


@pytest.fixture(scope="module")
def late_reach():
    """Summed gradients of 12 steps: by units in windows of 1, 4 and 12, and of the same step as a bare scan body."""
    with jax.enable_x64(True):
        rng, num_steps = np.random.default_rng(3), 12
        problem = Problem.of(LateReach(hidden=3), TOKENS)
        params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), problem.init(jax.random.key(0)))
        state = jax.vmap(lambda _: problem.init_state(params))(jnp.arange(B))
        ids = rng.integers(0, V, (num_steps + 1, B))
        xs, rows = (jnp.asarray(ids[:-1]), jnp.asarray(ids[1:])), jnp.arange(B, dtype=jnp.int32)

        def summed(problem, size):
            windows = [jax.tree.map(lambda a, t=t: a[t : t + size], xs) for t in range(0, num_steps, size)]
            weights = jnp.full((size, B), 1 / num_steps)
            found = run(SnAp(), problem, params, state, [Batch(x, weights, jnp.zeros(B, bool), rows) for x in windows])
            return jax.tree.map(lambda *a: sum(a), *[grads for _, grads, _ in found])

        bare = Problem(problem.step, problem.init_state)
        return {size: summed(problem, size) for size in (1, 4, 12)}, summed(bare, 4)


@pytest.mark.parametrize("size", [1, 4, 12])
def test_the_mask_grows_step_by_step_whatever_the_window(late_reach, size):
    """Decided once per window, the mask would depend on the length of the window."""
    by_units, dense = late_reach
    assert_same(by_units[size], dense)


@pytest.mark.parametrize("fields", [{"embedding": 2}, {"layers": 2}], ids=repr)
def test_networks_whose_parameters_feed_many_units_do_not_fit(fields):
    problem = Problem.of(make("rnn", TOKENS, **fields), TOKENS)
    assert not _units.fits(problem, problem.init(jax.random.key(0)))


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"embedding": 2}, {"layers": 2}], ids=repr)
def test_networks_whose_parameters_feed_many_units_are_stored_whole(fields):
    model = make("rnn", TOKENS, **fields)
    params, state, batches = setting(model, TOKENS)
    problem = Problem.of(model, TOKENS)
    assert_same(run(SnAp(), problem, params, state, batches), run(by_definition(1), problem, params, state, batches))


@pytest.mark.slow
@pytest.mark.parametrize("order", [H, 10**9])
def test_all_steps_are_rtrl(order):
    model = make("rnn", TOKENS)
    params, state, batches = setting(model, TOKENS)
    problem = Problem.of(model, TOKENS)
    assert_same(run(SnAp(n=order), problem, params, state, batches), run(RTRL(), problem, params, state, batches))


def chain_step(params, state, x):
    """Four units, each of which reads the previous one: with each step a parameter reaches one more unit."""
    read = jnp.concatenate([jnp.zeros(1), state["h"][:-1]])
    h = jnp.tanh(params["a"] * state["h"] + params["b"] * read + params["c"] * x)
    return {"h": h, "n": state["n"] + 1}, jnp.sum(h * h) + h[-1]


@functools.cache
def by_definition(order):
    """SnAp as a loop over steps, which computes the mask from all J and I so far."""

    @dataclass(frozen=True)
    class Loop(seqjax.SequenceGradient):
        claim, of = "biased", "history"

        def init(self, problem, params, state):
            S, P = ravel_float(state)[0].size, ravel_pytree(params)[0].size
            return Memory(rows=(jnp.zeros((S, P)), jnp.zeros((S, P)), jnp.zeros((S, S))))

        def one(self, problem, params, start, memory, xs, weights, noise):
            theta, unravel = ravel_pytree(params)
            s, others, join = ravel_float(start(params))
            M, seen, joined = memory.rows
            loss, grad = 0.0, jnp.zeros_like(theta)
            for t in range(T):
                x = jax.tree.map(lambda a, t=t: a[t], xs)
                both = lambda theta, s, others=others, x=x: problem.step(unravel(theta), join(s, others), x)
                new = lambda *args, both=both: ravel_float(both(*args)[0])[0]
                cost = lambda *args, both=both: both(*args)[1]
                loss += weights[t] * cost(theta, s)
                direct, q = jax.grad(cost, (0, 1))(theta, s)
                grad += weights[t] * (q @ M + direct)
                I, J = jax.jacobian(new, (0, 1))(theta, s)
                seen, joined = (jnp.maximum(a, (b != 0).astype(float)) for a, b in ((seen, I), (joined, J)))
                reach, mask = seen, seen
                for _ in range(order - 1):
                    reach = joined @ reach
                    mask = mask + reach
                M = jnp.where(mask > 0, J @ M + I, 0)
                others, s = ravel_float(problem.step(params, join(s, others), x)[0])[1], new(theta, s)
            return loss, unravel(grad), join(s, others), Memory(rows=(M, seen, joined))

    return Loop()


def chain():
    rng = np.random.default_rng(1)
    params = {name: jnp.asarray(rng.normal(size=4)) for name in "abc"}
    state = {"h": jnp.asarray(rng.normal(size=(B, 4))), "n": jnp.zeros(B, jnp.int32)}
    batches = [
        Batch(jnp.asarray(rng.normal(size=(T, B))), jnp.asarray(rng.uniform(size=(T, B))), jnp.zeros(B, bool),
              jnp.arange(B, dtype=jnp.int32))
        for _ in range(3)
    ]  # fmt: skip
    return Problem(chain_step), params, state, batches


@pytest.mark.parametrize("order", [2, *(pytest.param(order, marks=pytest.mark.slow) for order in (1, 3))])
def test_the_mask_is_what_is_reached_within_n_steps(order):
    found = run(SnAp(n=order), *chain())
    assert_same(found, run(by_definition(order), *chain()))
    other = run(SnAp(n=order + 1), *chain())
    assert float(jnp.abs(found[2][1]["c"] - other[2][1]["c"]).max()) > 1e-4  # one step more is another gradient


def test_a_chain_is_rtrl_from_its_length_on():
    assert_same(run(SnAp(n=4), *chain()), run(RTRL(), *chain()))


def test_rflo_is_its_equation():
    problem, params, state, batches = chain()
    found = run(RFLO(leak=0.25), problem, params, state, batches)
    theta, unravel = ravel_pytree(params)
    total, total_loss = 0.0, 0.0
    for b in range(B):
        s, M = jax.tree.map(lambda a, b=b: a[b], state), np.zeros((4, theta.size))
        for batch in batches:
            for t in range(T):
                f = lambda theta, h, s=s, x=batch.xs[t, b]: chain_step(unravel(theta), s | {"h": h}, x)
                q_theta, q = jax.grad(lambda *a, f=f: f(*a)[1], (0, 1))(theta, s["h"])
                I = jax.jacobian(lambda theta, f=f, h=s["h"]: f(theta, h)[0]["h"])(theta)
                total = total + batch.weights[t, b] * (q @ M + q_theta)
                M = 0.75 * M + I
                s, loss = f(theta, s["h"])
                total_loss += batch.weights[t, b] * loss
    got = jax.tree.map(lambda *a: sum(a), *[(e[0], e[1]) for e in found])
    np.testing.assert_allclose(ravel_pytree(got[1])[0], total, rtol=1e-11)
    np.testing.assert_allclose(got[0], total_loss, rtol=1e-12)


def test_without_leak_and_without_recurrence_rflo_is_rtrl():
    # h_t = h_{t-1} + a x + b: J is the identity
    _, params, state, batches = chain()
    add = Problem(lambda p, s, x: ({"h": s["h"] + p["a"] * x + p["b"], "n": s["n"]}, jnp.sum(s["h"] ** 3)))
    assert_same(run(RFLO(leak=0.0), add, params, state, batches), run(RTRL(), add, params, state, batches))

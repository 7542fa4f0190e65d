"""SnAp: RTRL where nothing is masked, a loop from the definition where something is, and two ways to store M."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from support.cells import MGU

import seqjax
from seqjax import Cell, Model, Problem, Spec, Tokens, Values
from seqjax.gradients import Batch, Memory, ravel_float
from seqjax.gradients.base import init_memory
from seqjax.plugin import get

pytestmark = pytest.mark.usefixtures("x64")

SnAp, RTRL, RFLO = (get("gradient", name) for name in ("snap", "rtrl", "rflo"))
T, B, H, V = 4, 2, 3, 5


@dataclass(frozen=True)
class Whole(Model):
    """A model whose parameters nobody has sorted by units."""

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
class Chain(Cell):
    """Parameters of the first block reach all three leaves, those of the second a and b, those of the third b."""

    blocks = 3
    State = Three

    def cell(self, u, v, state):
        first, second, third = jnp.split(jnp.tanh(u + v), 3, -1)
        h = 0.5 * state.h + first
        a = 0.3 * state.a + h * second - 0.2 * state.b
        return Three(h + 0.1 * state.a, a, 0.6 * state.b + a + third)


OWN = {"mgu": MGU(hidden=H), "chain": Chain(hidden=H)}


def make(name, spec, **fields):
    return OWN[name] if name in OWN else seqjax.create("model", name, hidden=H, **fields)


def setting(model, spec, seed=0):
    """Parameters, a state that is not zero, three windows."""
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
    """Losses, gradients and states of three windows, memory carried."""
    memory = init_memory(strategy, problem, params, state, B)
    call, found = jax.jit(functools.partial(strategy, problem)), []
    for batch in batches:
        estimate = call(params, state, memory, batch)
        state, memory = estimate.state, estimate.memory
        found.append(estimate[:3])
    return found


def assert_same(got, want, rtol=1e-12):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, atol=rtol * np.abs(w).max())


TOKENS, VALUES = Spec(Tokens(V)), Spec(Values(2))


@pytest.mark.parametrize("strategy", [SnAp(), RFLO(leak=0.3)], ids=repr)
@pytest.mark.parametrize(
    ("name", "spec"), [("rnn", TOKENS), ("gru", VALUES), ("lstm", TOKENS), ("mgu", VALUES), ("chain", TOKENS)]
)
def test_storing_by_units_changes_nothing(strategy, name, spec):
    model = make(name, spec)
    params, state, batches = setting(model, spec)
    by_units = run(strategy, Problem.of(model, spec), params, state, batches)
    whole = run(strategy, Problem.of(Whole(model), spec), params, state, batches)
    assert_same(by_units, whole)
    rows = init_memory(strategy, Problem.of(model, spec), params, state, B).rows
    assert sum(a.size for a in jax.tree.leaves(rows)) == B * len(state.layers[0]) * sum(
        a.size for a in jax.tree.leaves(params["layer_0"])
    )


@pytest.mark.parametrize("fields", [{"layers": 2}, {"embedding": 2}])
def test_networks_whose_parameters_feed_many_units_are_stored_whole(fields):
    model = make("rnn", TOKENS, **fields)
    params, state, batches = setting(model, TOKENS)
    problem = Problem.of(model, TOKENS)
    assert model.unit_params(params) is None
    assert_same(run(SnAp(), problem, params, state, batches), run(by_definition(1), problem, params, state, batches))


@pytest.mark.parametrize("order", [H, 10**9])
def test_all_steps_are_rtrl(order):
    model = make("rnn", TOKENS)
    params, state, batches = setting(model, TOKENS)
    problem = Problem.of(model, TOKENS)
    assert_same(run(SnAp(n=order), problem, params, state, batches), run(RTRL(), problem, params, state, batches))


@dataclass(frozen=True)
class Chain:
    """Units in a row, of which each reads the one before: a parameter reaches one unit more with each step."""

    size: int = 4

    def __call__(self, params, state, x):
        read = jnp.concatenate([jnp.zeros(1), state["h"][:-1]])
        h = jnp.tanh(params["a"] * state["h"] + params["b"] * read + params["c"] * x)
        return {"h": h, "n": state["n"] + 1}, jnp.sum(h * h) + h[-1]


@functools.cache
def by_definition(order):
    """The strategy as a loop over steps, for a problem of few numbers: the mask is recomputed from all J and I."""

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
                x = jax.tree.map(lambda a: a[t], xs)  # noqa: B023
                new = lambda theta, s: ravel_float(problem.step(unravel(theta), join(s, others), x)[0])[0]  # noqa: B023
                cost = lambda theta, s: problem.step(unravel(theta), join(s, others), x)[1]  # noqa: B023
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
    return Problem(Chain()), params, state, batches


@pytest.mark.parametrize("order", [1, 2, 3])
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
        s, M = jax.tree.map(lambda a: a[b], state), np.zeros((4, theta.size))  # noqa: B023
        for batch in batches:
            for t in range(T):
                f = lambda theta, h: Chain()(unravel(theta), s | {"h": h}, batch.xs[t, b])  # noqa: B023
                (q_theta, q), I = (
                    jax.grad(lambda *a: f(*a)[1], (0, 1))(theta, s["h"]),  # noqa: B023
                    jax.jacobian(lambda theta: f(theta, s["h"])[0]["h"])(theta),  # noqa: B023
                )
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

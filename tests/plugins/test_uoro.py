"""UORO against RTRL's influence matrix, over all signs of three windows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem
from seqjax.gradients import Batch, Memory
from seqjax.plugin import get

pytestmark = pytest.mark.usefixtures("x64")

UORO, RTRL = (get("gradient", name) for name in ("uoro", "rtrl"))
T, S = 1, 2
PARAMS = {"A": np.array([[0.8, -0.5], [0.3, 0.6]]), "b": np.array([0.4, -0.7]), "h0": np.array([0.2, 0.9])}


def step(params, state, x):
    h = jnp.tanh(params["A"] @ state["h"] + params["b"] * x)
    return {"h": h, "n": state["n"] + 1}, jnp.sum(h) ** 2 + params["b"][0] * x


def init_state(params, key=None):
    return {"h": params["h0"] ** 2, "n": jnp.zeros((), jnp.int32)}


PROBLEM = Problem(step, init_state)


def windows(num_steps, count=3):
    rng = np.random.default_rng(5)
    return [
        Batch(*map(jnp.asarray, (rng.normal(size=(num_steps, 1)), rng.uniform(size=(num_steps, 1)))),
              jnp.array([w == 0]), jnp.zeros(1, jnp.int32))
        for w in range(count)
    ]  # fmt: skip


def params():
    return jax.tree.map(jnp.asarray, PARAMS)


def start(p, reset, state):
    return jax.tree.map(lambda a, b: jnp.where(reset, a[None], b), init_state(p), state)


@functools.cache
def enumerated():
    """For each window the gradients [M, ...] over all signs of all windows so far, and the memories after it."""
    p, found = params(), []
    strategy = UORO()
    memory = jax.tree.map(lambda a: a[None, None], strategy.init(PROBLEM, p, init_state(p)))  # [K, B, ...]
    state = jax.tree.map(lambda a: a[None], init_state(p))

    @jax.jit
    def given(rows, state, batch, noise):
        begin = functools.partial(start, reset=batch.reset[0], state=state)
        one = lambda rows, noise: strategy.estimate(
            PROBLEM, p, lambda q: begin(q), Memory((), rows), batch, noise[None]
        )
        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(rows, noise)

    for batch in windows(T):
        row = Memory((), jax.tree.map(lambda a: a[0, 0], memory.rows))
        noise, probability = strategy.outcomes(PROBLEM, p, row, T)
        assert len(noise) == 2 ** ((1 + T) * S)
        np.testing.assert_allclose(probability.sum(), 1)
        estimate = given(memory.rows, state, batch, noise)
        joined = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), estimate)
        memory, state = joined.memory, jax.tree.map(lambda a: a[0], joined.state)
        found.append((joined.grads, memory.rows))
    return found


@functools.cache
def by_rtrl():
    p, found, strategy = params(), [], RTRL()
    state = jax.tree.map(lambda a: a[None], init_state(p))
    memory = jax.tree.map(lambda a: a[None], strategy.init(PROBLEM, p, init_state(p)))
    for batch in windows(T):
        estimate = jax.jit(functools.partial(strategy, PROBLEM))(p, state, memory, batch)
        state, memory = estimate.state, estimate.memory
        found.append((estimate.grads, memory.rows[0]))
    return found


@pytest.mark.parametrize(
    "window", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_all_signs_average_to_rtrl(window):
    (grads, _), (want, _) = enumerated()[window], by_rtrl()[window]
    for name in PARAMS:
        np.testing.assert_allclose(grads[name].mean(0), want[name], atol=1e-13, err_msg=name)
    assert float(grads["A"].std(0).max()) > (0.01 if window else -1)  # the draws differ, so only their mean agrees


@pytest.mark.parametrize("window", [0, 1, 2])
def test_the_rank_one_matrices_average_to_the_influence_matrix(window):
    (_, (s_tilde, theta_tilde)), (_, M) = enumerated()[window], by_rtrl()[window]
    flat = np.concatenate([theta_tilde[name].reshape(len(s_tilde), -1) for name in sorted(PARAMS)], 1)
    np.testing.assert_allclose(np.einsum("ms,mp->sp", s_tilde[:, 0], flat) / len(flat), M, atol=1e-13)
    assert float(np.abs(M).max()) > 0.1


def test_one_draw_follows_the_equations():
    p, strategy, batch = params(), UORO(), windows(4, 1)[0]
    _, unravel = jax.flatten_util.ravel_pytree(p)
    noise = strategy.draw(jax.random.key(3), PROBLEM, p, strategy.init(PROBLEM, p, init_state(p)), 4)
    memory = jax.tree.map(lambda a: a[None], strategy.init(PROBLEM, p, init_state(p)))
    begin = lambda q: jax.tree.map(lambda a: a[None], init_state(q))
    estimate = lambda memory: strategy.estimate(PROBLEM, p, begin, memory, batch, noise[None])
    got = jax.jit(estimate)(memory)
    nu_TS = np.where(noise, 1.0, -1.0)
    theta = jax.flatten_util.ravel_pytree(p)[0]
    I = jax.jacobian(lambda theta: init_state(unravel(theta))["h"])(theta)
    s, u, t, J, grad = init_state(p), np.zeros(S), np.zeros(theta.size), np.eye(S), 0
    norm_t = 0.0
    for i in range(5):
        if i:
            x, weight = batch.xs[i - 1, 0], batch.weights[i - 1, 0]
            new = lambda theta, h: step(unravel(theta), s | {"h": h}, x)[0]["h"]  # noqa: B023
            loss = lambda theta, h: step(unravel(theta), s | {"h": h}, x)[1]  # noqa: B023
            grad = grad + weight * (jax.grad(loss, 1)(theta, s["h"]) @ u * t + jax.grad(loss)(theta, s["h"]))
            I, J = jax.jacobian(new, (0, 1))(theta, s["h"])
            s = step(p, s, x)[0]
        u, w = J @ u, nu_TS[i] @ I
        root = lambda a, b: np.sqrt((a + 1e-7) / (np.linalg.norm(b) + 1e-7))
        rho_0, rho_1 = root(norm_t, u), root(np.linalg.norm(w), nu_TS[i])
        u, t = rho_0 * u + rho_1 * nu_TS[i], t / rho_0 + w / rho_1
        # In the window the norm is its mean over the signs; at the start it is that of θ̃ itself.
        norm_t = np.hypot(norm_t / rho_0, np.linalg.norm(w) / rho_1) if i else np.linalg.norm(t)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(got.grads)[0], grad, rtol=1e-11)
    np.testing.assert_allclose(got.memory.rows[0][0], u, rtol=1e-11)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(got.memory.rows[1])[0], t, rtol=1e-11)


def test_signs_are_balanced_and_independent():
    strategy, p = UORO(), params()
    memory = strategy.init(PROBLEM, p, init_state(p))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = jax.vmap(lambda key: strategy.draw(key, PROBLEM, p, memory, 3))(keys)
    signs = np.where(drawn, 1.0, -1.0).reshape(4000, -1)
    assert signs.shape == (4000, 4 * S)
    z = np.abs(signs.T @ signs - 4000 * np.eye(4 * S)) / np.sqrt(4000)  # products of different signs average to 0
    assert float(z.max()) < 6
    assert float(np.abs(signs.sum(0)).max()) < 6 * np.sqrt(4000)


def test_too_many_signs_are_not_listed():
    p = params()
    with pytest.raises(NotImplementedError, match=r"2\^22 patterns"):
        UORO().outcomes(PROBLEM, p, UORO().init(PROBLEM, p, init_state(p)), 10)


def test_parameters_of_two_precisions_keep_them():
    def step(params, h, x):
        h = jnp.tanh(params["a"] * h + params["b"].astype(h.dtype) * x)
        return h, h * h

    params = {"a": jnp.array(0.7), "b": jnp.array(0.9, jnp.bfloat16)}
    args = params, jnp.full(2, 0.3), jnp.ones((4, 2))
    run = seqjax.value_and_grad(step, UORO())
    grads = jax.eval_shape(lambda *args: run(*args, key=jax.random.key(0)).grads, *args)
    assert [grads[name].dtype for name in "ab"] == [params[name].dtype for name in "ab"]

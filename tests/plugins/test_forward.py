"""The forward gradient and evolution strategies against brute force over all signs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax import Problem
from seqjax.gradients import Batch, Memory, init_memory, reset_rows
from seqjax.plugin import get

pytestmark = pytest.mark.usefixtures("x64")

Forward, ES, PES = (get("gradient", name) for name in ("forward", "es", "pes"))
T, B, P = 3, 2, 3
A = np.array([[0.6, -0.4], [0.3, 0.7]])


def linear_step(params, state, x):
    """State and loss are linear in the parameters, however far apart."""
    h = A @ state["h"] + params["b"] * x
    return {"h": h, "n": state["n"] + 1}, h[0] - 2 * h[1] + params["c"] * x


def curved_step(params, state, x):
    h = jnp.tanh(A @ state["h"] * params["c"] + params["b"] * x)
    return {"h": h, "n": state["n"] + 1}, jnp.sum(h * h) + h[0]


def init_state(params, key=None):
    return {"h": jnp.stack([params["c"], 1 - params["c"]]), "n": jnp.zeros((), jnp.int32)}


LINEAR, CURVED = Problem(linear_step, init_state), Problem(curved_step, init_state)


def params():
    return {"b": jnp.array([0.5, -0.3]), "c": jnp.array(0.8)}


def windows():
    rng = np.random.default_rng(2)
    reset = [[True, False], [False, False], [False, True]]
    return [
        Batch(jnp.asarray(rng.normal(size=(T, B))), jnp.asarray(rng.uniform(size=(T, B))), jnp.array(f),
              jnp.arange(B, dtype=jnp.int32))
        for f in reset
    ]  # fmt: skip


def entering():
    return {"h": jnp.array([[0.0, 1.0], [0.4, -0.6]]), "n": jnp.zeros(B, jnp.int32)}


def expectation(strategy, problem):
    """The mean of the summed gradients of three windows over all joint signs, which are the same for both rows."""
    p, state, total = params(), entering(), 0.0
    memory = init_memory(strategy, problem, p, state, B)
    rows = jax.tree.map(lambda a: a[None], memory.rows)  # [K, B, ...], K joint signs so far

    for batch in windows():
        one_row = jax.tree.map(lambda a: a[0, 0], rows)
        noise, probability = strategy.outcomes(problem, p, Memory(memory.shared, one_row), T)
        noise = jnp.repeat(jnp.asarray(noise)[:, None], B, 1)

        @jax.jit
        def given(rows, noise, state=state, batch=batch):
            def one(rows, noise):
                start, entered = reset_rows(strategy, problem, p, state, Memory(memory.shared, rows), batch.reset)
                return strategy.estimate(problem, p, start, entered, batch, noise)

            return jax.vmap(jax.vmap(one, (None, 0)), (0, None), axis_size=max(1, len(rows_of(rows))))(rows, noise)

        found = given(rows, noise)
        grads = jax.tree.map(functools.partial(average, probability), found.grads)
        total = grads if total == 0.0 else jax.tree.map(jnp.add, total, grads)
        rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found.memory.rows)
        state = jax.tree.map(lambda a: a[0, 0], found.state)
    return total


def average(probability, a):
    return jnp.tensordot(probability, a.mean(0), 1)


def rows_of(rows):
    leaves = jax.tree.leaves(rows)
    return leaves[0] if leaves else [None]


@functools.cache
def truth(problem, of):
    """The gradient summed over three windows, by loops."""

    def total(p):
        loss = 0.0
        for b in range(B):
            s = jax.tree.map(lambda a, b=b: a[b], entering())
            for batch in windows():
                s = jax.lax.stop_gradient(s) if of == "window" else s
                s = problem.init_state(p) if batch.reset[b] else s
                for t in range(T):
                    s, l = problem.step(p, s, batch.xs[t, b])
                    loss += batch.weights[t, b] * l
        return loss

    return jax.grad(total)(params())


def error(got, want):
    return max(float(np.abs(got[name] - want[name]).max() / np.abs(want[name]).max()) for name in want)


def test_all_directions_average_to_the_gradient():
    assert error(expectation(Forward(), CURVED), truth(CURVED, "window")) < 1e-12


@pytest.mark.slow
def test_pes_is_exact_for_a_linear_loss_over_three_windows():
    assert error(expectation(PES(particles=2, sigma=0.3), LINEAR), truth(LINEAR, "history")) < 1e-12


def test_es_estimates_the_window_and_not_the_history():
    got = expectation(ES(particles=2, sigma=0.3), LINEAR)
    assert error(got, truth(LINEAR, "window")) < 1e-12
    assert error(got, truth(LINEAR, "history")) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "of"), [(ES, "window"), (PES, "history")])
def test_the_bias_falls_with_the_square_of_sigma(strategy, of):
    coarse, fine = (
        error(expectation(strategy(particles=2, sigma=sigma), CURVED), truth(CURVED, of)) for sigma in (0.04, 0.02)
    )
    assert 3.5 < coarse / fine < 4.5
    assert fine < 0.01


@pytest.mark.slow
def test_more_particles_have_the_same_mean_and_a_smaller_variance():
    strategies = [PES(particles=n, sigma=0.1) for n in (2, 8)]
    batch, state, spread = windows()[0], entering(), []
    for strategy in strategies:
        memory = init_memory(strategy, CURVED, params(), state, B)

        def gradient(key, strategy=strategy, memory=memory):
            return strategy(CURVED, params(), state, memory, batch, key).grads["b"]

        draws = jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(0), 2000))
        spread.append((draws.mean(0), draws.std(0)))
    (mean_2, std_2), (mean_8, std_8) = spread
    np.testing.assert_allclose(std_2 / std_8, 2, rtol=0.15)  # N / 2 independent pairs
    assert float(np.abs((mean_2 - mean_8) / np.sqrt((std_2**2 + std_8**2) / 2000)).max()) < 5


@pytest.mark.slow
def test_the_equation_of_pes_by_loops():
    strategy, p, state = PES(particles=4, sigma=0.2), params(), entering()
    memory = init_memory(strategy, CURVED, p, state, B)
    noise = np.random.default_rng(0).random((3, B, 2, P)) < 0.5
    want, got = 0.0, 0.0
    theta, unravel = jax.flatten_util.ravel_pytree(p)
    row = lambda b: jax.tree.map(lambda a: a[b], entering())
    true, particles, summed = [row(b) for b in range(B)], {}, np.zeros((B, 4, P))
    for w, batch in enumerate(windows()):
        start, memory = reset_rows(strategy, CURVED, p, state, memory, batch.reset)
        e = strategy.estimate(CURVED, p, start, memory, batch, jnp.asarray(noise[w]))
        state, memory, got = e.state, e.memory, got + jax.flatten_util.ravel_pytree(e.grads)[0]
        for b in range(B):
            eps = 0.2 * np.where(noise[w, b], 1, -1)
            eps = np.concatenate([eps, -eps])
            if batch.reset[b]:
                summed[b], true[b] = 0, CURVED.init_state(p)
            for i in range(4):
                q = unravel(theta + eps[i])
                if batch.reset[b]:
                    particles[b, i] = CURVED.init_state(q)
                s, total = particles.get((b, i), row(b)), 0.0
                for t in range(T):
                    s, l = CURVED.step(q, s, batch.xs[t, b])
                    total += batch.weights[t, b] * l
                particles[b, i] = s
                summed[b, i] += eps[i]
                want = want + summed[b, i] * total / (4 * 0.04)
            for t in range(T):
                true[b], _ = CURVED.step(p, true[b], batch.xs[t, b])
        np.testing.assert_allclose(e.state["h"], np.stack([s["h"] for s in true]), rtol=1e-12)
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("particles", [0, 1, 7])
def test_particles_come_in_pairs(particles):
    with pytest.raises(seqjax.Error, match="particles"):
        PES(particles=particles)

"""The forward gradient and evolution strategies, from their equations and by enumeration of all signs."""

import functools

import jax
import numpy as np
import pytest
from support.parts import ravel

import seqjax
from seqjax.gradients import ES, PES, Forward
from seqjax.gradients.contract.rows import reset_rows
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import initial_memory
from seqjax.testing.proofs.cases import B, case, small_init, small_step
from seqjax.testing.proofs.claims import check_unbiased
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

P, N, SIGMA = 4, 4, 0.2


def test_all_directions_average_to_the_gradient():
    check_unbiased(Forward(), cases=["small"])


def unravel(theta):
    return dict(zip("bw", np.split(theta, 2), strict=True))


@quick_jit
def run(params, state, xs, weights):
    """One row through a window: (state, loss)."""
    state, losses = jax.lax.scan(functools.partial(small_step, params), state, xs)
    return state, weights @ losses


@functools.partial(quick_jit, static_argnums=0)
def estimate(strategy, state, memory, batch, noise):
    """The estimate of a window, with the signs that each row has drawn."""
    c = case("small")
    start, memory = reset_rows(strategy, c.problem, c.params, state, memory, batch.reset)
    return strategy.estimate(c.problem, c.params, start, memory, batch, noise)


@pytest.mark.parametrize("strategy", [PES(particles=N, sigma=SIGMA), ES(particles=N, sigma=SIGMA)], ids=["pes", "es"])
def test_the_gradient_is_its_equation_by_loops_over_particles(strategy):
    """g = 1/(N σ²) Σ_i A_i L_i, where A_i sums the perturbations of a particle since the row was reset."""
    c, carried = case("small"), isinstance(strategy, PES)
    theta = ravel(c.params)
    noise = np.random.default_rng(0).random((3, B, N // 2, P)) < 0.5
    memory = initial_memory(strategy, c.problem, c.params, c.state)
    state, true, A = c.state, [{"h": h} for h in np.asarray(c.state["h"])], np.zeros((B, N, P))
    particles = [[row] * N for row in true]
    for w, batch in enumerate(c.windows):
        e = estimate(strategy, state, memory, batch, noise[w])
        state, memory, want, loss = e.state, e.memory, 0.0, 0.0
        for b in range(B):
            xs, weights = jax.tree.map(lambda a, b=b: np.asarray(a)[:, b], (batch.xs, batch.weights))
            if batch.reset[b]:
                A[b], true[b] = 0, small_init(unravel(theta))
            eps = SIGMA * np.where(noise[w, b], 1, -1)
            eps = np.concatenate([eps, -eps])
            A[b] = A[b] + eps if carried else eps
            for i in range(N):
                q = unravel(theta + eps[i])
                first = small_init(q) if batch.reset[b] else particles[b][i] if carried else true[b]
                particles[b][i], total = run(q, first, xs, weights)
                want = want + A[b, i] * float(total) / (N * SIGMA**2)
            true[b], total = run(c.params, true[b], xs, weights)
            loss += float(total)
        assert_close((e.loss, ravel(e.grads)), (np.asarray(loss), want), f"window {w}", 1e-11)
        assert_close(e.state["h"], np.stack([row["h"] for row in true]), f"state after window {w}")


def test_one_pair_is_the_formula_of_spsa():
    """ĝ_j = (y(θ + c Δ) - y(θ - c Δ)) / (2 c Δ_j) (Spall 1992), with a loss y that has no noise."""
    c, strategy, rng = case("small"), ES(particles=2, sigma=SIGMA), np.random.default_rng(1)
    theta = ravel(c.params)
    noise, batch = rng.random((B, 1, P)) < 0.5, c.windows[1]  # some rows go on, and some are reset
    memory = initial_memory(strategy, c.problem, c.params, c.state)
    got = estimate(strategy, c.state, memory, batch, noise)
    want = np.zeros(P)
    for b in range(B):
        delta = np.where(noise[b, 0], 1.0, -1.0)

        def y(theta, b=b):
            """The loss of the row, whose first state depends on the parameters if it is reset."""
            params = unravel(theta)
            first = small_init(params) if batch.reset[b] else {"h": np.asarray(c.state["h"])[b]}
            xs, weights = jax.tree.map(lambda a: np.asarray(a)[:, b], (batch.xs, batch.weights))
            return float(run(params, first, xs, weights)[1])

        difference = y(theta + SIGMA * delta) - y(theta - SIGMA * delta)
        want += [difference / (2 * SIGMA * delta[j]) for j in range(P)]
    assert_close(ravel(got.grads), want, "SPSA", 1e-11)


@pytest.mark.parametrize("particles", [0, 1, 7])
def test_particles_come_in_pairs(particles):
    with pytest.raises(seqjax.Error, match="particles"):
        PES(particles=particles)

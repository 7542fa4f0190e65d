"""The measured decay of the gradient, and how `adaptive` and `learned-hazard` use it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.checks import CUTS
from support.strategies import ages

import seqjax
from seqjax import Problem
from seqjax.gradients import Batch, Memory, init_memory, ravel_float
from seqjax.plugin import get
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import call, estimates
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.proofs.claims import check_unbiased
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients._probe import Decay, decay_rate, lag_norms, probe, start_decay

pytestmark = pytest.mark.usefixtures("x64")

LearnedHazard = get("gradient", "learned-hazard")


def adaptive(**fields):
    return seqjax.create("gradient", "adaptive", **fields)


def measured(phi):
    """Running means by lag that equal `phi`."""
    phi = jnp.asarray(phi, float)
    return Decay(0.3 * phi, jnp.full(phi.shape, 0.3), jnp.zeros((), jnp.int32))


def linear(decay, num_steps, losses=slice(None)):
    """h_t = decay h_{t-1} + w with loss h_t: the gradient of each loss decays by exactly `decay` per step."""
    weights = jnp.zeros((num_steps, 1)).at[losses].set(1.0)
    problem = Problem(lambda w, h, x: (decay * h + w * x, decay * h + w * x))
    batch = Batch(jnp.ones((num_steps, 1)), weights, jnp.zeros(1, bool), jnp.zeros(1, jnp.int32))
    return problem, jnp.asarray(0.5), jnp.ones(1), batch


def observe(strategy, problem, w, state, batch, memory=None):
    """The memory after a window."""
    memory = init_memory(strategy, problem, w, state, 1) if memory is None else memory
    return call(strategy, problem, w, state, memory, batch, jax.random.key(0)).memory


@pytest.mark.parametrize("name", ["learned", pytest.param("foreign", marks=pytest.mark.slow)])
def test_norms_by_lag(name):
    """Against the gradient of one loss by the state that enters each step before it, with a loop for each pair."""
    c, last = case(name), np.array([5, 2, 0, 3])
    xs = c.windows[0].xs

    def row_norms(b, s):
        read = lambda t: jax.tree.map(lambda a: a[t, b], xs)
        states = [jax.tree.map(lambda a: a[b], c.state)]
        for t in range(s):
            states.append(c.step(c.params, states[t], read(t))[0])

        def loss(h, others, join, first):
            state = join(h, others)
            for t in range(first, s + 1):
                state, loss = c.step(c.params, state, read(t))
            return loss

        split = [ravel_float(state) for state in states]
        return [jnp.linalg.norm(jax.grad(loss)(*split[t], t)) for t in range(s, -1, -1)] + [0.0] * (T - 1 - s)

    got = quick_jit(lag_norms, static_argnums=0)(c.problem, c.params, c.state, xs, jnp.asarray(last))
    want = np.array([row_norms(b, s) for b, s in enumerate(last)]).T
    assert_close(np.asarray(got), want, name)


@pytest.mark.slow
def test_the_probe_takes_the_last_scored_loss_and_leaves_out_rows_without_one():
    c = case("learned")
    weights = c.windows[0].weights.at[3:, 0].set(0).at[:, 1::2].set(0).at[2, 0].set(1).at[T - 1, 2].set(1)
    batch = c.windows[0]._replace(weights=weights)
    norms = lag_norms(c.problem, c.params, c.state, batch.xs, jnp.array([2, 0, 5, 3]))
    decay = probe(start_decay(8), c.problem, c.params, c.state, batch, every=1, forget=0.1, power=2)
    counts = np.array([2, 2, 2, 1, 1, 1, 0, 0])
    want = np.pad(np.asarray(norms[:, [0, 2]] ** 2).sum(1), (0, 2)) / np.maximum(counts, 1)
    assert_close((np.asarray(decay.mean), np.asarray(decay.weight)), (want, 0.1 * counts / B), "mean, weight")


def test_means_forget_and_are_updated_at_every_nth_window_only():
    problem, w, h, batch = linear(0.5, 4)
    other = batch._replace(weights=batch.weights.at[1:].set(0))
    strategy = adaptive(max_steps=3, every=2, forget=0.25)
    first = observe(strategy, problem, w, h, batch)
    second = observe(strategy, problem, w, h, other, first)
    third = observe(strategy, problem, w, h, other, second)
    assert_close(second.shared[:2], first.shared[:2], "a window without a measurement", 0)
    assert_close(np.asarray(third.shared.mean), np.array([0.5, 0.25, 0.125]), "mean of equal measurements")
    assert_close(np.asarray(third.shared.weight), np.array([0.4375, 0.1875, 0.1875]), "weight")


def test_the_rate_is_fitted_to_the_lags_asked_for():
    phi = jnp.asarray([7.0, 0.1, *(3 * 0.8 ** np.arange(6)), 1e-30])
    rate = lambda *fitted: float(decay_rate(phi, jnp.asarray([k in fitted for k in range(len(phi))])))
    np.testing.assert_allclose([rate(2, 3, 4, 5, 6, 7), rate(2, 7), rate(2, 5, 8)], 0.8, rtol=1e-12)
    np.testing.assert_allclose(rate(0, 1), 0.1 / 7, rtol=1e-12)
    assert (rate(), rate(3), rate(8)) == (0, 0, 0)
    assert float(decay_rate(jnp.zeros(4), jnp.ones(4, bool))) == 0


@pytest.mark.parametrize("decay", [0.9, pytest.param(0.3, marks=pytest.mark.slow)])
def test_adaptive_truncates_a_geometric_decay_where_the_tail_is_small(decay):
    memory = observe(adaptive(max_steps=40), *linear(decay, 40))
    tail = lambda K: decay ** (K - 1) / (1 - decay)  # in units of φ_1; φ_0 counts as φ_1
    total = max(1 + (1 - decay ** (n - 1)) / (1 - decay) - tail(n) for n in range(1, 41))
    for delta in (0.9, 0.5, 0.1, 0.01):
        want = next((K for K in range(1, 41) if tail(K) <= delta * total), 40)
        assert int(adaptive(delta=delta, max_steps=40).steps(memory)) == want


def test_adaptive_reads_the_lags_before_the_tail_as_they_are():
    phi = np.array([1.0, 0.1, 2.0, 0.2, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625])  # τ = 5, β = 1/2
    a = [sum(phi[k - 1 : 4]) + 4 * 0.5 ** max(k - 5, 0) / 0.5 for k in range(1, 12)]
    total = max(phi[0] + sum(phi[: n - 1]) - a[n - 1] for n in range(1, 12))
    found = [int(adaptive(delta=d, max_steps=11).steps(Memory(measured(phi)))) for d in (0.05, 0.2, 0.5, 2.0)]
    assert found == [next((k for k in range(1, 12) if a[k - 1] <= d * total), 11) for d in (0.05, 0.2, 0.5, 2.0)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("phi", "steps"),
    [(np.ones(8), 8), (1.5 ** np.arange(8), 8), (np.zeros(8), 2), (np.eye(8)[0], 2), (np.full(8, np.nan), 8)],
    ids=["constant", "growing", "zero", "one lag", "nothing measured"],
)
def test_adaptive_at_the_edges(phi, steps):
    decay = measured(phi) if np.isfinite(phi).all() else start_decay(8)
    assert int(adaptive(min_steps=2, max_steps=8).steps(Memory(decay))) == steps


def test_adaptive_cuts_at_multiples_of_its_steps():
    @dataclass(frozen=True)
    class Measured(type(adaptive())):
        def init(self, problem, params, state):
            return Memory(measured(0.5 ** np.arange(4)))

    strategy = Measured(delta=0.4, max_steps=4, every=1)
    assert int(strategy.steps(strategy.init(None, None, None))) == 3
    edge_weights, _ = strategy.edge_weights((), strategy.init(None, None, None), T)
    np.testing.assert_array_equal(edge_weights, CUTS[3])


def test_before_anything_is_measured_adaptive_takes_its_most_steps():
    first = estimates(adaptive(max_steps=2), case("learned"))[0]
    want = estimates(seqjax.create("gradient", "truncated", steps=2), case("learned"))[0]
    assert_close((first.loss, first.grads), (want.loss, want.grads), "first window")


def test_max_steps_is_at_least_min_steps():
    with pytest.raises(seqjax.Error, match="max_steps = 3 < min_steps = 4"):
        adaptive(min_steps=4, max_steps=3)


def test_the_hazard_is_one_minus_the_decay():
    strategy = LearnedHazard(max_lag=6)
    hazard = lambda shared: float(strategy.hazard(jnp.int32(0), shared))
    np.testing.assert_allclose(hazard(observe(strategy, *linear(0.9, 8)).shared), 0.1, atol=1e-12)
    found = [hazard(measured(decay ** (2 * np.arange(6)))) for decay in (0.9, 0.3, 1.0, 1.1, 0.0)]
    np.testing.assert_allclose(found, [0.1, 0.5, 0, 0, 0.5], atol=1e-12)


def test_the_initial_hazard_holds_until_two_lags_are_measured():
    strategy, two = LearnedHazard(initial=0.2, max_lag=6), measured(0.9 ** (2 * np.arange(6)))
    for known, hazard in ((0, 0.2), (1, 0.2), (2, 0.1)):
        decay = two._replace(weight=jnp.where(jnp.arange(6) < known, two.weight, 0))
        assert float(strategy.hazard(jnp.int32(0), decay)) == pytest.approx(hazard, rel=1e-12)


def test_outcomes_sum_to_the_gradient_whatever_was_measured():
    class Measured(LearnedHazard):
        def init(self, problem, params, state):
            return super().init(problem, params, state)._replace(shared=measured(0.36 ** np.arange(4)))

    strategy = Measured(max_lag=4, every=1)
    assert abs(float(strategy.hazard(jnp.int32(0), measured(0.36 ** np.arange(4)))) - 0.4) < 1e-12
    check_unbiased(strategy, ages(5), cases=["learned"])


def test_the_optimal_survival():
    """q_k ∝ √D_k attains the bound, no other survival that is tried costs less, and the hazard of ρ^k is 1 - ρ."""
    rng, rho = np.random.default_rng(0), 0.7
    tails = rho ** np.arange(60)  # ‖Σ_{j≥k} G_j‖
    D = np.append(tails[:-1] ** 2 - tails[1:] ** 2, tails[-1] ** 2)[:-1]
    cost = lambda q: np.sum(D / q) * np.sum(q)
    best = rho ** np.arange(59)
    np.testing.assert_allclose(cost(best), np.sum(np.sqrt(D)) ** 2, rtol=1e-12)
    others = np.cumprod(np.append(np.ones((200, 1)), rng.uniform(0.4, 1, (200, 58)), axis=1), axis=1)
    assert min(map(cost, others)) > cost(best)

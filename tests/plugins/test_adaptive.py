"""The measured decay of the gradient, and how `adaptive` and `learned-hazard` use it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.checks import CUTS
from support.parts import derivatives_of
from support.strategies import ages

import seqjax
from seqjax import Problem
from seqjax.gradients import Adaptive, Batch, LearnedHazard, Memory
from seqjax.testing.compare import assert_close
from seqjax.testing.proofs.calls import call, initial_memory
from seqjax.testing.proofs.cases import B, T, case
from seqjax.testing.proofs.claims import check_unbiased
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients.reverse._probe import Decay, decay_rate, lag_norms, probe, start_decay

pytestmark = pytest.mark.usefixtures("x64")


def measured(phi):
    """Running means by lag that equal `phi`."""
    phi = np.asarray(phi, float)
    return Decay(0.3 * phi, np.full(phi.shape, 0.3), np.zeros((), np.int32))


def linear(decay, num_steps):
    """h_t = decay h_{t-1} + w with loss h_t: the gradient of each loss decays by exactly `decay` per step."""
    problem = Problem(lambda w, h, x: (decay * h + w * x, decay * h + w * x))
    ones = np.ones((num_steps, B))
    return problem, np.array(0.5), np.ones(B), Batch(ones, ones, np.zeros(B, bool), np.arange(B, dtype=np.int32))


def observe(strategy, problem, w, state, batch, memory=None):
    """The memory after a window."""
    memory = initial_memory(strategy, problem, w, state) if memory is None else memory
    return call(strategy, problem, w, state, memory, batch, jax.random.key(0)).memory


LAST = np.array([5, 2, 0, 3])
"""The last scored step of each row."""


def norms_by_hand():
    """‖∂l_s/∂h_{s-k}‖ for k = 1, ..., T of each row, where s is its last scored step, [T, B]."""
    d, found = derivatives_of("small")[0], np.zeros((T, B))
    for b, s in enumerate(LAST):
        v = d.q[b, s]
        for t in range(s, -1, -1):
            found[s - t, b] = np.linalg.norm(v)
            v = v @ d.J[b, t - 1]
    return found


def test_norms_by_lag():
    c = case("small")
    got = quick_jit(lag_norms, static_argnums=0)(c.problem, c.params, c.state, c.windows[0].xs, LAST)
    # The rows that are reset start elsewhere; `lag_norms` is given the state in which the window starts.
    assert_close(np.asarray(got)[:, 1:], norms_by_hand()[:, 1:], "norms")


@pytest.mark.slow
def test_the_probe_takes_the_last_scored_loss_and_leaves_out_rows_without_one():
    c = case("small")
    weights = np.array(c.windows[0].weights)
    weights[:, 0], weights[4:, 1], weights[3, 1], weights[5, 2], weights[4:, 3], weights[3, 3] = 0, 0, 1, 1, 0, 1
    batch = c.windows[0]._replace(weights=weights)
    norms = lag_norms(c.problem, c.params, c.state, batch.xs, jnp.array([0, 3, 5, 3]))
    decay = probe(start_decay(8), c.problem, c.params, c.state, batch, every=1, forget=0.1, power=2)
    counts = np.array([3, 3, 3, 3, 1, 1, 0, 0])
    want = np.pad(np.asarray(norms[:, 1:] ** 2).sum(1), (0, 2)) / np.maximum(counts, 1)
    assert_close((np.asarray(decay.mean), np.asarray(decay.weight)), (want, 0.1 * counts / B), "mean, weight")


def test_means_forget_and_are_updated_at_every_nth_window_only():
    problem, w, h, batch = linear(0.5, 4)
    other = batch._replace(weights=np.repeat(np.eye(4)[:1].T, B, 1))
    strategy = Adaptive(max_steps=3, every=2, forget=0.25)
    first = observe(strategy, problem, w, h, batch)
    second = observe(strategy, problem, w, h, other, first)
    third = observe(strategy, problem, w, h, other, second)
    assert_close(second.shared[:2], first.shared[:2], "a window without a measurement", 0)
    assert_close(
        quick_jit(lambda decay: decay.mean)(third.shared), np.array([0.5, 0.25, 0.125]), "mean of equal measurements"
    )
    assert_close(np.asarray(third.shared.weight), np.array([0.4375, 0.1875, 0.1875]), "weight")


def test_the_rate_is_fitted_to_the_lags_asked_for():
    phi, run = np.array([7.0, 0.1, *(3 * 0.8 ** np.arange(6)), 1e-30]), quick_jit(decay_rate)
    rate = lambda *fitted: float(run(phi, np.isin(np.arange(len(phi)), fitted)))
    np.testing.assert_allclose([rate(2, 3, 4, 5, 6, 7), rate(2, 7), rate(2, 5, 8)], 0.8, rtol=1e-12)
    np.testing.assert_allclose(rate(0, 1), 0.1 / 7, rtol=1e-12)
    assert (rate(), rate(3), rate(8)) == (0, 0, 0)
    assert float(run(np.zeros(9), np.ones(9, bool))) == 0


@quick_jit
def steps(memory, delta):
    """K of `adaptive` for at most as many steps as there are measured lags, at least 2."""
    return Traced(delta=delta, min_steps=2, max_steps=len(memory.shared.total)).steps(memory)


@dataclass(frozen=True)
class Traced(Adaptive):
    """A class of the tests, whose fields may be traced, so that one program serves all δ."""


def test_adaptive_reads_the_lags_before_the_tail_as_they_are():
    phi = np.array([1.0, 0.1, 2.0, 0.2, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625])  # τ = 5, β = 1/2
    a = [sum(phi[k - 1 : 4]) + 4 * 0.5 ** max(k - 5, 0) / 0.5 for k in range(1, 12)]
    total = max(phi[0] + sum(phi[: n - 1]) - a[n - 1] for n in range(1, 12))
    found = [int(steps(Memory(measured(phi)), delta)) for delta in (0.05, 0.2, 0.5, 2.0)]
    assert found == [next((k for k in range(2, 12) if a[k - 1] <= d * total), 11) for d in (0.05, 0.2, 0.5, 2.0)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("phi", "K"),
    [(np.ones(11), 11), (1.5 ** np.arange(11), 11), (np.zeros(11), 2), (np.eye(11)[0], 2), (None, 11)],
    ids=["constant", "growing", "zero", "one lag", "nothing measured"],
)
def test_adaptive_at_the_edges(phi, K):
    decay = jax.tree.map(np.asarray, start_decay(11)) if phi is None else measured(phi)
    assert int(steps(Memory(decay), 0.1)) == K


def test_adaptive_cuts_at_multiples_of_its_steps():
    memory, strategy = Memory(measured(0.5 ** np.arange(4))), Adaptive(delta=0.4, max_steps=4)
    K, edge_weights = quick_jit(lambda: (strategy.metrics(memory), strategy.edge_weights((), memory, T)[0]))()
    assert (K.keys(), int(K["gradient_steps"])) == ({"gradient_steps"}, 3)
    np.testing.assert_array_equal(edge_weights, CUTS[3])


def test_max_steps_is_at_least_min_steps():
    with pytest.raises(seqjax.Error, match="max_steps = 3 < min_steps = 4"):
        Adaptive(min_steps=4, max_steps=3)


def test_the_hazard_is_one_minus_the_decay():
    strategy = LearnedHazard(max_lag=6)
    hazard = quick_jit(lambda shared: strategy.metrics(Memory(shared))["gradient_hazard"])
    np.testing.assert_allclose(hazard(observe(strategy, *linear(0.9, 6)).shared), 0.1, atol=1e-12)
    found = [hazard(measured(decay ** (2 * np.arange(6)))) for decay in (0.9, 0.3, 1.0, 1.1, 0.0)]
    np.testing.assert_allclose(found, [0.1, 0.5, 0, 0, 0.5], atol=1e-12)


def test_the_initial_hazard_holds_until_two_lags_are_measured():
    strategy, two = LearnedHazard(initial=0.2, max_lag=6), measured(0.9 ** (2 * np.arange(6)))
    hazard = quick_jit(lambda shared: strategy.hazard(jnp.int32(0), shared))
    for known, want in ((0, 0.2), (1, 0.2), (2, 0.1)):
        decay = two._replace(weight=np.where(np.arange(6) < known, 0.3, 0))
        assert float(hazard(decay)) == pytest.approx(want, rel=1e-12)


@pytest.mark.slow
def test_outcomes_sum_to_the_gradient_whatever_was_measured():
    class Measured(LearnedHazard):
        def init(self, problem, params, state, x=None):
            return super().init(problem, params, state, x)._replace(shared=measured(0.36 ** np.arange(4)))

    check_unbiased(Measured(max_lag=4, every=1), ages(5), cases=["small"])

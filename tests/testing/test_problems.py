"""The problems of the literature against their equations."""

import jax
import numpy as np

import seqjax
from seqjax.testing.quick_jit import quick_jit

TRUE, REST = seqjax.testing.NEURON


def euler(current, milliseconds, dt):
    """v of the equations of Pospischil et al. (2008), by the explicit Euler method: float64[milliseconds / dt]."""
    v, m, h, n, trace = -70.0, 0.0, 1.0, 0.0, []
    for _ in range(round(milliseconds / dt)):
        trace.append(v)
        u = v + 60
        a_m, b_m = -0.32 * (u - 13) / np.expm1(-(u - 13) / 4), 0.28 * (u - 40) / np.expm1((u - 40) / 5)
        a_h, b_h = 0.128 * np.exp(-(u - 17) / 18), 4 / (1 + np.exp(-(u - 40) / 5))
        a_n, b_n = -0.032 * (u - 15) / np.expm1(-(u - 15) / 5), 0.5 * np.exp(-(u - 10) / 40)
        flow = current - 50 * m**3 * h * (v - 53) - 5 * n**4 * (v + 90) - 0.1 * (v + 70)
        m, h, n = (y + dt * (a * (1 - y) - b * y) for y, a, b in ((m, a_m, b_m), (h, a_h, b_h), (n, a_n, b_n)))
        v += dt * flow
    return np.array(trace)


def crossings(trace, dt):
    """The times in ms at which a trace rises through 0 mV."""
    return dt * np.flatnonzero((trace[1:] > 0) & (trace[:-1] <= 0))


def test_the_spikes_of_the_neuron_are_those_of_its_equations():
    step = seqjax.testing.spiking_neuron()
    trace = quick_jit(lambda xs: jax.lax.scan(lambda state, x: step(TRUE, state, x), REST, xs)[1][1])
    with jax.enable_x64(True):
        v = trace((np.full(1200, 4.0), np.zeros(1200)))
    found, expected = crossings(np.asarray(v), 0.025), crossings(euler(4.0, 30, 0.001), 0.001)
    assert len(found) == len(expected) >= 2
    assert np.abs(found - expected).max() < 0.5


def test_the_neuron_has_a_derivative_where_a_rate_is_0_by_0():
    def loss(v):
        state, _ = seqjax.testing.spiking_neuron()(TRUE, {**REST, "v": v, "m": 0.3, "n": 0.2}, (4.0, 0.0))
        return sum(jax.tree.leaves(state))

    with jax.enable_x64(True):
        v, h = np.array([-47.0, -45.0, -20.0]), 1e-2
        losses, slopes = quick_jit(jax.vmap(jax.value_and_grad(loss)))(np.concatenate([v, v + h, v - h]))
    losses, slopes = np.asarray(losses), np.asarray(slopes)
    difference = np.subtract(losses[3:6], losses[6:]) / (2 * h)
    np.testing.assert_allclose(slopes[:3], difference, rtol=1e-3)

"""Jacobians of systems for which the results are known."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.parts import derivatives

from seqjax import Error, jacobians, lags
from seqjax.diagnostics import Jacobians
from seqjax.testing.proofs.cases import T, case

pytestmark = pytest.mark.usefixtures("x64")


def steps(T, B=1):
    return jax.device_put(np.zeros((T, B)))


def linear(params, state, x):
    return params @ state, jnp.sum(state)


def found(growth, lags=3):
    ones = np.ones(lags)
    return Jacobians(growth ** np.arange(1, lags + 1), ones, growth, np.log([growth, growth / 2]), 10, 1)


def test_a_diagonal_system_decays_by_its_entries():
    rates = np.array([0.5, -0.9, 0.2])
    j = jacobians(linear, *jax.device_put((np.diag(rates), np.ones((2, 3)))), steps(12, 2), 5, batched=True)
    np.testing.assert_allclose(j.mean_norm, 0.9 ** np.arange(1, 6), rtol=1e-12)
    np.testing.assert_allclose(j.max_norm, j.mean_norm, rtol=1e-12)
    np.testing.assert_allclose(j.lyapunov, np.log([0.9, 0.5, 0.2]), rtol=1e-12)
    assert j.spectral_radius == pytest.approx(0.9, rel=1e-12)
    assert j.growth == pytest.approx(0.9, rel=1e-12)
    np.testing.assert_array_equal(j.by_state["state"], j.max_norm)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_network_against_a_loop(every):
    """Products of different Jacobians in numpy, for four rows and all lags."""
    c, K = case("small"), 4
    factors = derivatives(c._replace(initial=None, windows=c.windows[:1]))[0].J
    found = jacobians(c.step, c.params, c.state, c.windows[0].xs, K, every=every, batched=True)
    norms, radii, exponents = [[] for _ in range(K)], [], []
    for J in factors:
        Q = np.eye(2)
        diagonals = []
        for t in range(T):
            Q, R = np.linalg.qr(J[t] @ Q)
            diagonals.append(np.log(np.abs(np.diag(R))))
            if (T - 1 - t) % every == 0:
                radii.append(np.abs(np.linalg.eigvals(J[t])).max())
                product = np.eye(2)
                for k in range(min(K, t + 1)):
                    product = product @ J[t - k]
                    norms[k].append(np.linalg.norm(product, 2))
        exponents.append(np.sort(np.mean(diagonals, 0))[::-1])
    np.testing.assert_allclose(found.mean_norm, [np.mean(values) for values in norms], rtol=1e-10)
    np.testing.assert_allclose(found.max_norm, [max(values) for values in norms], rtol=1e-10)
    assert found.spectral_radius == pytest.approx(np.mean(radii), rel=1e-10)
    np.testing.assert_allclose(found.lyapunov, np.mean(exponents, 0), rtol=1e-10)


def test_counters_and_keys_are_carried_along():
    """Odd steps double and even steps halve. The key is passed on, and its noise is not part of the Jacobians."""

    def step(params, state, x):
        noise = jax.random.normal(jax.random.fold_in(state["key"], state["n"]))
        h = state["h"] * jnp.where(state["n"] % 2 == 0, 0.5, 2.0) + noise
        return {"h": h, "n": state["n"] + 1, "key": state["key"]}, h.sum()

    keys = jax.random.split(jax.random.key(0), 2)
    state = jax.device_put({"h": np.ones((2, 1)), "n": np.zeros(2, np.int32), "key": keys})
    j = jacobians(step, 0.0, state, steps(6, 2), 2, batched=True)
    np.testing.assert_allclose(j.mean_norm, [1.25, 1.0], rtol=1e-12)
    np.testing.assert_allclose(j.max_norm, [2.0, 1.0], rtol=1e-12)


def test_norms_do_not_underflow():
    """A product of 1e-12 squared twice would be lost in float32."""
    with jax.enable_x64(False):
        j = jacobians(linear, *jax.device_put((np.eye(2) * 1e-12, np.ones((1, 2)))), steps(4), 3, batched=True)
    np.testing.assert_allclose(j.mean_norm, [1e-12, 1e-24, 1e-36], rtol=1e-5)


@pytest.mark.slow
def test_a_norm_that_overflows_is_infinite():
    with jax.enable_x64(False):
        j = jacobians(linear, np.array([[1e20]]), np.ones((1, 1)), steps(3), 3, batched=True)
    np.testing.assert_allclose(j.mean_norm, [1e20, np.inf, np.inf], rtol=1e-5)
    assert j.growth == pytest.approx(1e20, rel=1e-3)


def test_a_hazard_is_finite_below_one_minus_growth_squared():
    j = found(0.8)  # 1 - 0.64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert j.check_hazard(0.35)
    with pytest.warns(UserWarning, match=r"0\.36.*growth"):
        assert not j.check_hazard(0.37)
    assert j.largest_hazard == pytest.approx(0.36)
    assert found(1.1).largest_hazard == 0
    with pytest.warns(UserWarning, match="it is not 0, because ρ is not below 1"):
        assert not found(1.1).check_hazard(0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(1.1).check_hazard(0.0), "without cuts the variance is zero"
    assert "no constant hazard has finite variance" in str(found(1.1))
    with pytest.raises(Error, match=r"hazard = 1\.0"):
        j.check_hazard(1.0)


def test_it_can_be_printed_and_drawn():
    j = found(0.8, 12)
    text = str(j)
    assert "mean_norm" in text
    assert "1 - ρ² = 0.36" in text
    assert [line.split()[0] for line in text.splitlines()[2:7]] == ["1", "2", "5", "10", "12"]
    assert len(j.rows) == 12
    lines = {line.get_label(): line.get_ydata() for line in j.plot().axes[0].lines}
    np.testing.assert_allclose(lines["mean over t"], j.mean_norm)
    np.testing.assert_allclose(lines[r"$\rho^k$ with $\rho$ = 0.8"], 0.8 ** np.arange(1, 13))


@pytest.mark.parametrize(
    ("max_lag", "every", "message"),
    [(5, 1, "max_lag = 5 must be at most 4"), (0, 1, "max_lag = 0 must be"), (1, 0, "every = 0 must be")],
)
def test_a_lag_must_lie_in_the_sequence(max_lag, every, message):
    with pytest.raises(Error, match=message):
        jacobians(linear, *jax.device_put((np.eye(2), np.ones((1, 2)))), steps(4), max_lag, every=every, batched=True)


def test_a_state_must_have_floats():
    with pytest.raises(Error, match="no float leaves"):
        jacobians(lambda p, s, x: (s + 1, x), np.zeros(()), np.zeros(1, np.int32), steps(4), 2, batched=True)


class Pair(NamedTuple):
    slow: Any
    fast: Any
    n: Any


def test_the_norms_by_state_variable():
    """A pair of variables that do not act on each other: each has the powers of its own factor, in their order."""

    def pair(params, state, x):
        return Pair(params[1] * state.slow, params[0] * state.fast, state.n + 1), jnp.zeros(())

    state = jax.device_put(Pair(np.ones(2), np.ones((2, 3)), np.zeros(2, np.int32)))
    j = jacobians(pair, (0.5, 0.9), state, steps(12, 2), 5, batched=True)
    np.testing.assert_allclose(j.by_state["fast"], 0.5 ** np.arange(1, 6), rtol=1e-12)
    np.testing.assert_allclose(j.by_state["slow"], 0.9 ** np.arange(1, 6), rtol=1e-12)
    np.testing.assert_allclose(j.max_norm, j.by_state["slow"], rtol=1e-12)
    assert "state variable" in str(j)
    parts = jax.eval_shape(lambda params: lags(pair, params, state, steps(12, 2), 5, batched=True), np.ones(2))
    assert list(parts.by_state) == list(j.by_state) == ["slow", "fast"]


def iteration(A, s, x):
    """A linear map, which cannot read anything."""
    assert x is None
    return A @ s, jnp.sum(s)


def test_a_linear_iteration_contracts_by_its_spectral_radius():
    """A rotation that shrinks by .8, and a third variable that shrinks by .5, followed for as many lags as steps."""
    A = np.array([[0.8 * np.cos(1), -0.8 * np.sin(1), 0], [0.8 * np.sin(1), 0.8 * np.cos(1), 0], [0, 0, 0.5]])
    j = jacobians(iteration, *jax.device_put((A, np.ones(3))), length=6)
    assert j.spectral_radius == pytest.approx(np.abs(np.linalg.eigvals(A)).max(), rel=1e-12)
    np.testing.assert_allclose(j.max_norm, [np.linalg.norm(np.linalg.matrix_power(A, k), 2) for k in range(1, 7)])
    assert j.growth == pytest.approx(0.8, rel=1e-10)


@pytest.mark.slow
def test_iterations_of_rows_are_those_of_a_step_that_ignores_its_input():
    """The Jacobian depends on the state, which differs from row to row."""
    A, start = jax.device_put((np.array([[0.5, -0.8], [0.3, 0.9]]), np.array([[1.0, 0.2], [-0.5, 2.0], [0.1, 0.4]])))

    def curved(A, s, x):
        s, loss = iteration(A, jnp.tanh(s), x)
        return s, (loss, s)

    options = {"every": 2, "has_aux": True, "batched": True}
    found = jacobians(curved, A, start, None, 3, length=7, **options)
    want = jacobians(lambda A, s, x: curved(A, s, None), A, start, steps(7, 3), 3, **options)
    assert not np.array_equal(found.mean_norm, found.max_norm)
    for name in ("mean_norm", "max_norm", "lyapunov", "spectral_radius"):
        np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
    assert "7 steps, 3 rows" in str(found)
    with pytest.raises(Error, match="xs = None has no arrays, so that the number of steps is not known: pass it"):
        jacobians(curved, A, start, None, 3, **options)

import numpy as np
import pytest

from seqjax import Error
from seqjax.analysis import linear
from seqjax.analysis.linear import best_linear, iterated, noisy_sine_covariance

SINE = noisy_sine_covariance(frequency=0.01, noise=0.2)
CLEAN = noisy_sine_covariance(frequency=0.01, noise=0.0)


def ar1(phi):
    return lambda lags: phi**lags / (1 - phi**2)


@pytest.mark.parametrize(("lags", "mse"), [(1, 0.077083), (4, 0.050109), (16, 0.045005), (64, 0.042417)])
def test_one_step_error_of_the_chapters_sine_by_number_of_lags(lags, mse):
    assert round(best_linear(SINE, lags).mse, 6) == mse


@pytest.mark.parametrize(("frequency", "noise"), [(0.01, 0.2), (0.7, 0.05), (2.0, 1.5)])
@pytest.mark.parametrize(("lags", "ahead"), [(1, 1), (3, 2), (6, 9)])
def test_it_is_the_least_squares_fit_over_all_phases_and_noises(frequency, noise, lags, ahead):
    """The population as a finite design: phases around the circle, and the noise of each value alone."""
    phases = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    t = np.arange(lags)
    clean = np.sin(phases[:, None] - frequency * t) / 48**0.5
    rows = np.concatenate([clean, noise * np.eye(lags)])
    labels = np.concatenate([np.sin(phases + frequency * ahead) / 48**0.5, np.zeros(lags)])
    expected = np.linalg.lstsq(rows, labels)[0]
    found = best_linear(noisy_sine_covariance(frequency, noise), lags, ahead)
    np.testing.assert_allclose(found.coefficients, expected, atol=1e-8)
    assert found.mse == pytest.approx(((rows @ expected - labels) ** 2).sum() + noise**2, rel=1e-11)


@pytest.mark.parametrize("predict", [best_linear, iterated])
def test_an_autoregression_of_order_1(predict):
    for ahead in (1, 2, 7):
        found = predict(ar1(0.9), 3, ahead)
        np.testing.assert_allclose(found.coefficients, [0.9**ahead, 0, 0], atol=1e-13)
        assert found.mse == pytest.approx((1 - 0.81**ahead) / (1 - 0.81), rel=1e-12)


def test_forecasts_of_forecasts_by_hand():
    """The recursion written out, for an autoregression that needs more than four lags."""
    gamma = SINE(np.arange(60))
    one = best_linear(SINE, 4).coefficients
    history = list(np.eye(4))  # each value of the window as a function of the window, the latest first
    for ahead in range(1, 20):
        history.insert(0, sum(a * x for a, x in zip(one, history, strict=False)))
        found = iterated(SINE, 4, ahead)
        np.testing.assert_allclose(found.coefficients, history[0], rtol=1e-12)
        weights = np.concatenate([[1.0], np.zeros(ahead - 1), -history[0]])  # of the error, the latest first
        i = np.arange(len(weights))
        assert found.mse == pytest.approx(weights @ gamma[abs(i[:, None] - i)] @ weights, rel=1e-12)


@pytest.mark.parametrize(("lags", "ahead"), [(2, 1), (4, 30), (64, 1)])
def test_lags_that_add_nothing_leave_short_coefficients(lags, ahead):
    """Γ has rank 2; the least-norm solution is in the span of the lagged cosine and sine."""
    found = best_linear(CLEAN, lags, ahead)
    assert found.mse < 1e-14
    t = np.arange(lags)
    window = np.stack([np.cos(0.01 * t), -np.sin(0.01 * t)])  # of x_{t-i}, with x_t = A cos + B sin and t = 0
    label = np.array([np.cos(0.01 * ahead), np.sin(0.01 * ahead)])
    shortest = window.T @ np.linalg.solve(window @ window.T, label)
    np.testing.assert_allclose(found.coefficients, shortest, atol=1e-7 * abs(shortest).max())


def test_a_constant_and_nothing():
    constant = best_linear(np.full(9, 3.0), 4, 5)
    np.testing.assert_allclose(constant.coefficients, 0.25)
    assert constant.mse == pytest.approx(0, abs=1e-14)
    nothing = best_linear(np.zeros(5), 3)
    assert (nothing.coefficients.tolist(), nothing.mse) == ([0, 0, 0], 0)


def test_an_array_or_a_function():
    for form in (SINE(np.arange(7)), SINE(np.arange(70)), SINE(np.arange(7)).tolist()):
        found, expected = linear.best_linear(form, 4, 3), linear.best_linear(SINE, 4, 3)
        np.testing.assert_array_equal(found.coefficients, expected.coefficients, strict=True)
        assert found.mse == expected.mse
        assert isinstance(found.mse, float)


@pytest.mark.parametrize(
    ("autocovariance", "lags", "ahead", "message"),
    [
        (SINE, 0, 1, "lags = 0 must be a whole number, at least 1"),
        (SINE, 2, 0, "ahead = 0 must be"),
        (SINE, 2.0, 1, "lags = 2.0 must be"),
        (np.ones(6), 4, 3, r"lags = 4 and ahead = 3 need 7 finite numbers, of lags 0 to 6; found .* \[6\]"),
        (np.array([1, np.nan, 0]), 1, 1, "finite"),
        (np.array([1.0, 2.0, 1.0]), 2, 1, r"no series has this autocovariance: .* first 2 lags .* eigenvalue -1"),
        (np.array([-1.0, 0.0]), 1, 1, "no series"),
        (np.array([1.0, 2.0]), 1, 1, "no series has this autocovariance: the error .* would be -3"),
    ],
)
@pytest.mark.parametrize("predict", [best_linear, iterated])
def test_wrong_arguments(predict, autocovariance, lags, ahead, message):
    with pytest.raises(Error, match=message):
        predict(autocovariance, lags, ahead)

"""The exact error of the best linear forecast of a stationary series from its last values.

The series has mean zero and autocovariance γ(h) = E x_t x_{t+h}. A forecast k steps ahead from τ lags,

    x̂_{t+k} = Σ_{i<τ} a_i x_{t-i},   has mean squared error   γ(0) - 2 aᵀγ_k + aᵀΓa

    where   Γ_ij = γ(i - j)   and   (γ_k)_i = γ(k + i).

The error is least if Γa = γ_k, the prediction equations (Brockwell & Davis 1991, "Time series: theory and methods",
§5.1). No model that is linear in those lags has a smaller error, and for a Gaussian series no model at all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqjax.errors import Error, check_whole

Autocovariance = Callable[[np.ndarray], Any] | Any
"""γ: an array γ(0), γ(1), ..., or a function from lags int64[n] to their autocovariances."""


class Predictor(NamedTuple):
    """A linear forecast.

    Args:
        coefficients: float64[lags]; a_i multiplies x_{t-i}, so that the latest value is first.
        mse: the mean squared error.
    """

    coefficients: np.ndarray
    mse: float


def best_linear(autocovariance: Autocovariance, lags: int, ahead: int = 1) -> Predictor:
    """The best linear forecast of x_{t+ahead} from x_t, ..., x_{t-lags+1}, fitted to this step: a *direct* forecast.

    If some values are linear functions of others (a sine without noise needs two lags), several vectors of coefficients
    have the least error, and the shortest vector is returned.

    Args:
        autocovariance: γ, at least up to lag lags + ahead - 1.
        lags: τ, at least 1.
        ahead: k, at least 1.

    Raises:
        Error: there are too few autocovariances; no series has these autocovariances.
    """
    covariance, cross = _moments(autocovariance, lags, ahead)
    values, vectors = np.linalg.eigh(covariance)
    # The rounding errors of Γ's entries and of its eigenvalues are below this.
    rounding = 10 * lags * np.finfo(float).eps * max(values[-1], 0.0)
    if values[0] < -rounding:
        raise Error(
            f"no series has this autocovariance: the matrix of its first {lags} lags has the negative eigenvalue "
            f"{values[0]:.3g}"
        )
    kept = values > rounding
    coefficients = vectors[:, kept] @ (vectors[:, kept].T @ cross / values[kept])
    return _predictor(coefficients, covariance, cross)


def iterated(autocovariance: Autocovariance, lags: int, ahead: int) -> Predictor:
    """The forecast of x_{t+ahead} by `ahead` applications of the best one-step forecast, which reads its own forecasts.

    Its coefficients are the first row of Cᵏ, where C is the companion matrix of the one-step coefficients. Its error is
    never below that of the direct forecast of `best_linear`, and equal to it for an AR(p) series with lags >= p.

    Args:
        autocovariance: γ, at least up to lag lags + ahead - 1.
        lags: τ, at least 1.
        ahead: k, at least 1.

    Raises:
        Error: there are too few autocovariances; no series has these autocovariances.
    """
    covariance, cross = _moments(autocovariance, lags, ahead)
    companion = np.eye(lags, k=-1)
    companion[0] = best_linear(autocovariance, lags).coefficients
    return _predictor(np.linalg.matrix_power(companion, ahead)[0], covariance, cross)


def noisy_sine_covariance(frequency: float, noise: float) -> Callable[[np.ndarray], np.ndarray]:
    """The autocovariance γ(h) = ½ cos(ωh) + σ² [h = 0] of a sine with noise.

    The series is x_t = sin(ωt + φ) + ε_t, with φ uniform on the circle and white noise ε_t of variance σ². The series
    A cos ωt + B sin ωt + ε_t, with uncorrelated A and B of variance ½, has the same autocovariance; it is Gaussian if
    A, B and ε_t are.

    Args:
        frequency: ω, in radians a step.
        noise: σ, the standard deviation of the noise.
    """

    def autocovariance(lags):
        return 0.5 * np.cos(frequency * lags) + noise**2 * (lags == 0)

    return autocovariance


def _moments(autocovariance: Autocovariance, lags: int, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """Γ [lags, lags] and γ_k [lags]."""
    check_whole(lags=(lags, 1), ahead=(ahead, 1))
    needed = lags + ahead
    given = autocovariance(np.arange(needed)) if callable(autocovariance) else autocovariance
    gamma = np.asarray(given, np.float64)
    if gamma.ndim != 1 or len(gamma) < needed or not np.isfinite(gamma[:needed]).all():
        raise Error(
            f"autocovariance: lags = {lags} and ahead = {ahead} need {needed} finite numbers, of lags 0 to "
            f"{needed - 1}; found an array of shape {list(gamma.shape)}"
        )
    i = np.arange(lags)
    return gamma[abs(i[:, None] - i)], gamma[ahead + i]


def _predictor(coefficients, covariance, cross):
    """The coefficients with their error, which only rounding can make negative if a series has this autocovariance."""
    terms = covariance[0, 0], -2 * coefficients @ cross, coefficients @ covariance @ coefficients
    mse, rounding = float(sum(terms)), 1e-9 * max(map(abs, terms))
    if mse < -rounding:
        raise Error(f"no series has this autocovariance: the error of its best linear forecast would be {mse:.3g}")
    return Predictor(coefficients, max(mse, 0.0))

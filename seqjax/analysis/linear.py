"""How well a stationary series can be forecast by a linear function of its last values, in exact numbers.

The series has mean zero and autocovariance γ(h) = E x_t x_{t+h}. A forecast k steps ahead from τ lags,

    x̂_{t+k} = Σ_{i<τ} a_i x_{t-i},   has mean squared error   γ(0) - 2 aᵀγ_k + aᵀΓa

    where   Γ_ij = γ(i - j)   and   (γ_k)_i = γ(k + i).

It is least where Γa = γ_k, the prediction equations (Brockwell & Davis 1991, "Time series: theory and methods", §5.1).
No model that is linear in those lags does better, and of a Gaussian series no model at all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqjax.errors import Error, is_whole

Autocovariance = Callable[[np.ndarray], Any] | Any
"""γ: an array of γ(0), γ(1), ..., or a function from lags int64[n] to them."""


class Predictor(NamedTuple):
    """A linear forecast.

    Args:
        coefficients: float64[lags], of the latest value first: a_i weighs x_{t-i}.
        mse: its mean squared error.
    """

    coefficients: np.ndarray
    mse: float


def best_linear(autocovariance: Autocovariance, lags: int, ahead: int = 1) -> Predictor:
    """The best linear forecast of x_{t+ahead} from x_t, ..., x_{t-lags+1}, made for that step: the *direct* one.

    Where values are linear functions of others (a sine without noise needs two lags), many coefficients do equally
    well, and the shortest of them are returned.

    Args:
        autocovariance: γ, at least up to lag lags + ahead - 1.
        lags: τ, at least 1.
        ahead: k, at least 1.

    Raises:
        Error: too few autocovariances, or numbers that are not those of any series.
    """
    covariance, cross = _moments(autocovariance, lags, ahead)
    values, vectors = np.linalg.eigh(covariance)
    rounding = 10 * lags * np.finfo(float).eps * max(values[-1], 0.0)  # of Γ's entries, and of its eigenvalues
    if values[0] < -rounding:
        raise Error(
            f"no series has this autocovariance: the matrix of its first {lags} lags has the eigenvalue {values[0]:.3g}"
        )
    kept = values > rounding
    coefficients = vectors[:, kept] @ (vectors[:, kept].T @ cross / values[kept])
    return _predictor(coefficients, covariance, cross)


def iterated(autocovariance: Autocovariance, lags: int, ahead: int) -> Predictor:
    """The forecast of x_{t+ahead} by the best one-step forecast, which reads its own forecasts: `ahead` times over.

    Its coefficients are the first row of Cᵏ, C the companion matrix of those for one step. It is never better than the
    direct one of `best_linear`, and as good where one step loses nothing, as in an AR(p) series with lags >= p.

    Args:
        autocovariance: γ, at least up to lag lags + ahead - 1.
        lags: τ, at least 1.
        ahead: k, at least 1.

    Raises:
        Error: too few autocovariances, or numbers that are not those of any series.
    """
    covariance, cross = _moments(autocovariance, lags, ahead)
    companion = np.eye(lags, k=-1)
    companion[0] = best_linear(autocovariance, lags).coefficients
    return _predictor(np.linalg.matrix_power(companion, ahead)[0], covariance, cross)


def noisy_sine_covariance(frequency: float, noise: float) -> Callable[[np.ndarray], np.ndarray]:
    """γ(h) = ½ cos(ωh) + σ² [h = 0]: of x_t = sin(ωt + φ) + ε_t, φ uniform on the circle, ε_t white with variance σ².

    It is that of A cos ωt + B sin ωt + ε_t too, A and B uncorrelated of variance ½: a Gaussian series if they are.

    Args:
        frequency: ω, in radians a step.
        noise: σ, the standard deviation of the noise.
    """

    def autocovariance(lags):
        return 0.5 * np.cos(frequency * lags) + noise**2 * (lags == 0)

    return autocovariance


def _moments(autocovariance: Autocovariance, lags: int, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """Γ [lags, lags] and γ_k [lags]."""
    for name, value in (("lags", lags), ("ahead", ahead)):
        if not is_whole(value) or value < 1:
            raise Error(f"{name} = {value!r} must be a whole number, at least 1")
    needed = lags + ahead
    found = autocovariance(np.arange(needed)) if callable(autocovariance) else autocovariance
    gamma = np.asarray(found, np.float64)
    if gamma.ndim != 1 or len(gamma) < needed or not np.isfinite(gamma[:needed]).all():
        raise Error(
            f"autocovariance: lags = {lags} and ahead = {ahead} need {needed} finite numbers, of lags 0 to "
            f"{needed - 1}; found an array of shape {list(gamma.shape)}"
        )
    i = np.arange(lags)
    return gamma[abs(i[:, None] - i)], gamma[ahead + i]


def _predictor(coefficients, covariance, cross):
    """The coefficients with their error, which for the autocovariance of a series rounding alone can make negative."""
    terms = covariance[0, 0], -2 * coefficients @ cross, coefficients @ covariance @ coefficients
    mse, rounding = float(sum(terms)), 1e-9 * max(map(abs, terms))
    if mse < -rounding:
        raise Error(f"no series has this autocovariance: the error of its best linear forecast would be {mse:.3g}")
    return Predictor(coefficients, max(mse, 0.0))

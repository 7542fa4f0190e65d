"""Backpropagation through time with cuts that grow rarer with their age, reweighted without bias."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import Error, RandomCuts, register

Hazard = Annotated[float, Interval(ge=0, lt=1)]


@register("gradient", "artbp")
@dataclass(frozen=True)
class ARTBP(RandomCuts):
    """Anticipated reweighted truncated backpropagation: cuts each edge with hazard c, and reweights what survives.

        z_t = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 0 with probability c(δ), else 1 / (1 - c(δ))
        c(δ) = (α - 1) / ((α - 2) L_0 + δ)

    δ = 1, 2, ... counts steps since the last cut, over windows, and L_0 is the mean distance between cuts. So long
    gradients keep a polynomial tail, P(distance > n) ~ n^(1 - α), and little weight where they survive (Tallec &
    Ollivier 2017, "Unbiasing truncated backpropagation through time", arXiv:1705.08209). With a constant hazard
    the variance is finite only where c < 1 - ρ², ρ the rate at which the gradient decays by lag.
    """

    length: Annotated[float, Interval(gt=1)] = 16.0
    """L_0, the mean number of steps from cut to cut."""
    alpha: Annotated[float, Interval(gt=2)] | None = 4.0
    """α, the decay of the tail; finite variance of the distance needs α > 3. None: the constant hazard 1 / L_0."""
    table: tuple[Hazard, ...] | None = None
    """c for δ = 1, 2, ...; the last entry holds from there on, and after a last 0 nothing is cut. Replaces `length` and
    `alpha`."""
    cap: Annotated[int, Interval(ge=1)] | None = None
    """Cut always at δ = cap, so that the gradient travels through at most `cap` steps. This is biased: see `kept`."""

    def __post_init__(self):
        super().__post_init__()
        if self.table == ():
            raise Error("ARTBP cannot be made: table = () has no hazard; leave it out, or give it one")

    @property
    def claim(self):  # type: ignore[override]
        """Unbiased without a cap."""
        return "unbiased" if self.cap is None else "biased"

    def hazard(self, age, shared):
        """c(δ), δ = age + 1."""
        c = self._uncapped(age)
        return c if self.cap is None else jnp.where(age >= self.cap - 1, 1.0, c)

    def kept(self, max_lag: int) -> np.ndarray:
        """The share of the gradient at lags 0 to `max_lag` that the mean keeps, float64[max_lag + 1]: 1 without a cap.

        What travels k steps crosses k edges in a row. If the first has age a, the mean of their product of ξ is 1 where
        all of them may survive, a + k < cap, and else 0. Long after the start an edge has age a with a probability
        proportional to S(a) = Π_{i<a} (1 - c(i + 1)), the probability that a cut is followed by a kept edges. Hence

            kept_k = Σ_{a < cap - k} S(a) / Σ_{a < cap} S(a)

        Only lag 0 is kept in full, and from lag `cap` on nothing is.
        """
        kept = np.ones(max_lag + 1)
        if self.cap is not None:
            with jax.enable_x64(True):
                c = np.asarray(self.hazard(jnp.arange(self.cap - 1), ()), np.float64)
            S = np.cumprod(np.concatenate([[1.0], 1 - c]))
            kept[: self.cap] = (np.cumsum(S)[::-1] / S.sum())[: max_lag + 1]
            kept[self.cap :] = 0
        return kept

    def _uncapped(self, age):
        if self.table is not None:
            return jnp.asarray(self.table, float)[jnp.minimum(age, len(self.table) - 1)]
        if self.alpha is None:
            return 1 / self.length
        return (self.alpha - 1) / ((self.alpha - 2) * self.length + 1 + jnp.asarray(age, float))

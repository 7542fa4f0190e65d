"""Backpropagation through time with random cuts whose hazard falls with age, reweighted without bias."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import Error, RandomCuts, register
from seqjax.gradients import segment_gradient

Hazard = Annotated[float, Interval(ge=0, lt=1)]


@register("gradient", "artbp")
@dataclass(frozen=True)
class ARTBP(RandomCuts):
    """Anticipated reweighted truncated backpropagation: cuts each edge with hazard c, and reweights the other edges.

        z_t = ∂f/∂w + ξ_t ∂f/∂h dh_{t-1}/dw,   ξ_t = 0 with probability c(δ), else 1 / (1 - c(δ))
        c(δ) = (α - 1) / ((α - 2) L_0 + δ)

    δ = 1, 2, ... counts the steps since the last cut, also across windows, and L_0 is the mean distance between cuts.
    The distance between cuts has a polynomial tail, P(distance > n) ~ n^(1 - α), so that gradients which travel far
    have small weights (Tallec & Ollivier 2017, "Unbiasing truncated backpropagation through time", arXiv:1705.08209).
    With a constant hazard the variance is finite only if c < 1 - ρ², where ρ is the decay of the gradient per lag.
    """

    cites = ("tallec2017unbiasing",)

    length: Annotated[float, Interval(gt=1)] = 16.0
    """L_0, the mean number of steps from one cut to the next."""
    alpha: Annotated[float, Interval(gt=2)] | None = 4.0
    """α, the decay of the tail; the distance has finite variance if α > 3. None: the constant hazard 1 / L_0."""
    table: tuple[Hazard, ...] | None = None
    """c for δ = 1, 2, ..., in place of `length` and `alpha`. The last entry holds for all larger δ."""
    cap: Annotated[int, Interval(ge=1)] | None = None
    """Always cut at δ = cap, so that the gradient travels through at most `cap` steps. This is biased, see `kept`."""

    def __post_init__(self):
        super().__post_init__()
        if self.table == ():
            raise Error("ARTBP cannot be made: table = () has no hazard; leave it out, or give it at least one")

    @property
    def claim(self):  # type: ignore[override]
        """A cap makes it biased."""
        return "unbiased" if self.cap is None else "biased"

    def hazard(self, age, shared):
        """c(δ), δ = age + 1."""
        c = self._uncapped(age)
        return c if self.cap is None else jnp.where(age >= self.cap - 1, 1.0, c)

    def gradient(self, problem, params, start, batch, edge_weights):
        """With a cap, segment after segment: no loss reaches back further than `cap` steps."""
        if self.cap is None or not problem.weighs_whole_state:
            return super().gradient(problem, params, start, batch, edge_weights)
        # Segments of 3 cap steps are computed 4/3 times, and 4 cap steps are kept.
        return segment_gradient(problem, params, start, batch, 3 * self.cap, self.cap, edge_weights)

    def scan(self, call, noise, memory):
        """With a cap, segment after segment, as in `gradient`."""
        if self.cap is None or call.chosen is not None:
            return super().scan(call, noise, memory)
        return call.in_segments(3 * self.cap, self.cap, self.scan_weights(call, noise, memory))

    def kept(self, max_lag: int) -> np.ndarray:
        """The share of the gradient at lags 0 to `max_lag` that the mean keeps, float64[max_lag + 1]: 1 without a cap.

        The part that travels k steps crosses k consecutive edges. If the first of them has age a, the mean of the
        product of their ξ is 1 if all of them may survive, a + k < cap, and else 0. Long after the start an edge has
        age a with a probability proportional to S(a) = Π_{i<a} (1 - c(i + 1)), which is the probability that after a
        cut at least a edges are kept. Hence

            kept_k = Σ_{a < cap - k} S(a) / Σ_{a < cap} S(a)

        Only lag 0 is kept in full, and nothing is kept from lag `cap` on.
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

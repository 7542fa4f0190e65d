"""Backpropagation through time with random cuts, whose hazard is fitted to the decay of the gradient."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval

from seqjax import RandomCuts, register

from ._probe import Probing, decay_rate, start_decay


@register("gradient", "learned-hazard")
@dataclass(frozen=True)
class LearnedHazard(Probing, RandomCuts):
    """Cuts with the constant hazard that minimises mean square × cost, for the decay that is measured during training.

    Let the gradient of a loss be Σ_k G_k over lags, cut so that lag k is reached with probability q_k and divided by
    q_k. Its mean square is Σ_k D_k / q_k with D_k = ‖Σ_{j≥k} G_j‖² - ‖Σ_{j>k} G_j‖², and it costs Σ_k q_k steps. By the
    inequality of Cauchy and Schwarz their product is at least (Σ_k √D_k)², which q_k ∝ √D_k attains (Beatson & Adams
    2019, "Efficient optimization of loops and limits with randomized telescoping sums", arXiv:1905.07006). If the
    gradient decays as ρ^k, so that D_k ∝ ρ^2k, then q_k = ρ^k, and the hazard does not depend on the age,

        ξ_t = 0 with probability c, else 1 / (1 - c),   c = 1 - ρ

    It is smaller than 1 - ρ², so that the variance is finite. ρ² is fitted to running means of ‖∂l_s/∂h_{s-k}‖² by lag
    k. A measurement is used in later windows only, so that the estimate of every window is unbiased.
    """

    cites = ("beatson2019efficient",)

    initial: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """c until something has been measured."""
    max_hazard: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """The largest c."""
    max_lag: Annotated[int, Interval(ge=2)] = 32
    """The number of measured lags."""
    every: Annotated[int, Interval(ge=1)] = 10
    """The number of updates from one measurement to the next."""
    forget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """The share of the running means that a measurement replaces."""

    power = 2
    metric_names = ("gradient_hazard",)

    def init(self, problem, params, state, x=None):
        """Each row has its age. The running means of the decay by lag are shared by all rows."""
        return super().init(problem, params, state, x)._replace(shared=start_decay(self.max_lag))

    def hazard(self, age, shared):
        """c, which is the same at every age."""
        rho = jnp.sqrt(decay_rate(shared.mean, shared.known))
        # The rate is fitted to at least two lags: it is known once lag 2 was measured.
        return jnp.where(shared.known[1], jnp.clip(1 - rho, 0, self.max_hazard), self.initial)

    def metrics(self, memory):
        """c for the next window."""
        return {"gradient_hazard": self.hazard(0, memory.shared)}

"""Backpropagation through time, truncated to as few steps as the estimated bias allows."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval
from jaxtyping import Array, Int

from seqjax import Error, register
from seqjax.gradients import Memory
from seqjax.gradients.reverse.edges import segment_edges

from ._probe import Probing, decay_rate, start_decay


@register("gradient", "adaptive")
@dataclass(frozen=True)
class Adaptive(Probing):
    """Truncates to the smallest number of steps K whose relative bias is estimated to be at most δ.

    Let φ_k be the running mean of ‖∂l_s/∂h_{s-k}‖, and φ_k ≤ φ_τ β^{k-τ} from lag τ on. Up to a factor that all lags
    share, the gradient of lags 0 to K - 1 then lacks at most a(K),

        a(K) = Σ_{K≤k<τ} φ_k + φ_τ β^{max(K-τ, 0)} / (1 - β)
        K = min{K : a(K) ≤ δ max_n (Σ_{k<n} φ_k - a(n))}

    (Aicher, Foti & Fox 2019, "Adaptively truncating backpropagation through time to control gradient bias",
    arXiv:1905.07473). τ is half the number of measured lags, and β is fitted to the log φ_k beyond it; if they do not
    decay, K is `max_steps`. A scan body does not give φ_0, so φ_1 is used for it. The sum of norms is used in place of
    the norm of the sum: where lags cancel, the bias is larger than δ.

    Edges are cut as by `truncated` with `steps` = K. A loss keeps from 1 to K steps, so only the last steps before a
    cut have the bias that K was chosen for. The strategy controls the bias and saves no time: compiled code has one
    shape, and takes as long as `full`, plus one pass by `step` over the first `max_steps` steps in one of `every`
    updates.
    """

    cites = ("aicher2019adaptively",)

    delta: Annotated[float, Interval(gt=0)] = 0.1
    """δ, the largest relative bias."""
    min_steps: Annotated[int, Interval(ge=1)] = 1
    """The smallest K."""
    max_steps: Annotated[int, Interval(ge=1)] = 64
    """The largest K, and the number of measured lags. K has this value until something has been measured."""
    every: Annotated[int, Interval(ge=1)] = 10
    """The number of updates from one measurement to the next."""
    forget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """The share of the running means that a measurement replaces."""

    claim = "biased"
    power = 1
    metric_names = ("gradient_steps",)

    def __post_init__(self):
        super().__post_init__()
        if self.max_steps < self.min_steps:
            raise Error(
                f"Adaptive cannot be made: max_steps = {self.max_steps} < min_steps = {self.min_steps}; "
                "make max_steps at least min_steps"
            )

    def init(self, problem, params, state, x=None):
        """The running means of the decay by lag are shared by all rows."""
        return Memory(shared=start_decay(self.max_steps))

    def edge_weights(self, noise, memory, num_steps):
        """0 at positive multiples of K, else 1."""
        return segment_edges(num_steps, self.steps(memory)), memory

    def metrics(self, memory):
        """K for the next window."""
        return {"gradient_steps": self.steps(memory)}

    def steps(self, memory: Memory) -> Int[Array, ""]:
        """K for the next window, int32[]."""
        phi, known = memory.shared.mean, memory.shared.known
        k = jnp.arange(1, self.max_steps + 1)
        num_known = known.sum()
        tau = jnp.maximum(num_known // 2, 1)
        beta = decay_rate(phi, known & (k >= tau))
        phi_tau = phi[tau - 1]
        powers = beta ** jnp.maximum(k - tau, 0).astype(phi.dtype)
        tail = jnp.where(
            phi_tau > 0, jnp.where(beta < 1, phi_tau * powers / jnp.where(beta < 1, 1 - beta, 1), jnp.inf), 0
        )
        a = jnp.cumsum(jnp.where(k < tau, phi, 0)[::-1])[::-1] + tail
        before = phi[0] + jnp.cumsum(phi) - phi  # the sum over lags 0 to k - 1
        enough = (a <= self.delta * jnp.max(jnp.where(k <= num_known, before - a, -jnp.inf))) & (k >= self.min_steps)
        return jnp.where((num_known > 0) & enough.any(), jnp.argmax(enough) + 1, self.max_steps)

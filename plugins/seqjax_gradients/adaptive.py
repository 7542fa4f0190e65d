"""Backpropagation through time, truncated where the bias is estimated to be small enough."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Interval
from jaxtyping import Array, Int

from seqjax import Error, WeightedEdges, register
from seqjax.gradients import Memory, segment_edges

from ._probe import decay_rate, probe, start_decay


@register("gradient", "adaptive")
@dataclass(frozen=True)
class Adaptive(WeightedEdges):
    """Truncates to the fewest steps K whose relative bias is estimated to be at most δ.

    With φ_k the running mean of ‖∂l_s/∂h_{s-k}‖, and φ_k ≤ φ_τ β^{k-τ} from lag τ on, the gradient of lags 0 to K - 1
    lacks at most, up to a factor that all lags share,

        a(K) = Σ_{K≤k<τ} φ_k + φ_τ β^{max(K-τ, 0)} / (1 - β)
        K = min{K : a(K) ≤ δ max_n (Σ_{k<n} φ_k - a(n))}

    (Aicher, Foti & Fox 2019, "Adaptively truncating backpropagation through time to control gradient bias",
    arXiv:1905.07473). τ is half of the lags measured, and β is fitted to the log φ_k beyond it; if that does not decay,
    K is `max_steps`. φ_0, which a scan body does not show, counts as φ_1. The sum of norms stands for the norm of the
    sum: where lags cancel, the bias is larger than δ.

    Cuts as `truncated` with `steps` = K does, so that a loss keeps from 1 to K steps, and the bias is that of K for the
    last steps before a cut alone. What is chosen is the bias, not the time: compiled code has one shape, and costs as
    much as `full`, and at one update of `every` a pass by `step` over the first `max_steps` steps.
    """

    delta: Annotated[float, Interval(gt=0)] = 0.1
    """δ, the relative bias to stay below."""
    min_steps: Annotated[int, Interval(ge=1)] = 1
    """Smallest K."""
    max_steps: Annotated[int, Interval(ge=1)] = 64
    """Largest K, and the number of lags measured; K until something has been measured."""
    every: Annotated[int, Interval(ge=1)] = 10
    """Updates from one measurement to the next."""
    forget: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """Share of the running means that a measurement replaces."""

    claim = "biased"

    def __post_init__(self):
        super().__post_init__()
        if self.max_steps < self.min_steps:
            raise Error(
                f"Adaptive cannot be made: max_steps = {self.max_steps} < min_steps = {self.min_steps}; "
                "make max_steps at least min_steps"
            )

    def init(self, problem, params, state):
        """Shared: the decay by lag."""
        return Memory(shared=start_decay(self.max_steps))

    def edge_weights(self, noise, memory, num_steps):
        """Zero at positive multiples of K, else one."""
        return segment_edges(num_steps, self.steps(memory)), memory

    def estimate(self, problem, params, start, memory, batch, noise):
        estimate = super().estimate(problem, params, start, memory, batch, noise)
        decay = probe(
            memory.shared, problem, params, start(params), batch, every=self.every, forget=self.forget, power=1
        )
        return estimate._replace(memory=memory._replace(shared=decay))

    def steps(self, memory: Memory) -> Int[Array, ""]:
        """K, to which the next window is truncated."""
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

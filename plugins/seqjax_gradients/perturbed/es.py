"""Evolution strategies, applied to single windows."""

import functools
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Interval, MultipleOf
from jax.flatten_util import ravel_pytree

from seqjax import SequenceGradient, register
from seqjax.gradients import mapped, sees_vmap, sign_patterns, weighted_sum


@register("gradient", "es")
@dataclass(frozen=True)
class ES(SequenceGradient):
    """Estimates the gradient from the losses at perturbed parameters, without differentiating.

        g = 1/(N σ²) Σ_i ε_i L(θ + ε_i),   ε ∈ {±σ}^P, in pairs ε and -ε

    L is the loss of the window. All particles start in the state that enters it, so the influence of the parameters on
    this state is not seen: this is truncated ES, for the gradient of the window and not of the history (Metz et al.
    2019, arXiv:1810.10180). The mean of g_j is the difference quotient E[L(.., θ_j + σ, ..) - L(.., θ_j - σ, ..)] / 2σ
    over the signs of the other entries. It is the slope along θ_j of a smoothed loss: uniformly over ±σ along θ_j, and
    over the corners ±σ of the other entries. Normal noise would give the gradient of the loss smoothed by N(0, σ²).
    Both agree to order σ², and are exact for a loss linear in θ. Signs have the smaller variance, and their outcomes
    can be listed.

    A pair is the central difference (L(θ + ε) - L(θ - ε)) / 2σ along its direction ε / σ, which is a vector of signs.
    So one pair is the estimate of SPSA (Spall 1992, "Multivariate stochastic approximation using a simultaneous
    perturbation gradient approximation"), and a mean over pairs is the estimate of CD-RGE (Chaubard & Kochenderfer
    2025, arXiv:2505.17852) with random signs as directions.
    """

    cites = ("metz2019understanding", "spall1992multivariate", "chaubard2025scaling")

    particles: Annotated[int, Interval(ge=2), MultipleOf(2)] = 32
    """N, the number of perturbed copies of a row. It is even, since they come in pairs."""
    sigma: Annotated[float, Interval(gt=0)] = 0.1
    """σ, the size of the perturbation of every parameter."""

    claim = "biased"
    of = "window"
    for_one_step = True

    def draw(self, key, problem, params, memory, num_steps):
        """Where the ε of each pair are +σ, bool[N/2, P]."""
        return jax.random.bernoulli(key, shape=(self.particles // 2, ravel_pytree(params)[0].size))

    def outcomes(self, problem, params, memory, num_steps):
        """All 2^(P N/2) perturbations."""
        return sign_patterns(self.particles // 2, ravel_pytree(params)[0].size)

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Takes every particle through the window, and the unperturbed row."""
        theta, unravel = ravel_pytree(params)
        eps = perturbations(noise, self.sigma, theta.dtype)

        def run(eps):
            params = unravel(theta + eps)
            return weighted_sum(weights, run_steps(problem, params, start(params), xs)[1])

        one_by_one = sees_vmap(problem.step, params, start(params), jax.tree.map(lambda a: a[0], xs))
        losses = mapped(run, (0,), self.particles, one_by_one)(jnp.concatenate([eps, -eps]))
        state, losses_T = run_steps(problem, params, start(params), xs)
        return weighted_sum(weights, losses_T), unravel(slope(losses, eps, self.sigma)), state, memory


def perturbations(noise, sigma, dtype):
    """The first ε of each pair, float[N/2, P], from signs bool[N/2, P]."""
    return jnp.where(noise, sigma, -sigma).astype(dtype)


def run_steps(problem, params, state, xs):
    """The state after a window, and the losses [T]."""
    return jax.lax.scan(functools.partial(problem.step, params), state, xs)


def slope(losses, eps, sigma):
    """1/(N σ²) Σ_i ε_i L_i, float[P], from the losses [N]: first at all ε, then at all -ε."""
    plus, minus = jnp.split(losses.astype(eps.dtype), 2)
    return (plus - minus) @ eps / (len(losses) * sigma**2)

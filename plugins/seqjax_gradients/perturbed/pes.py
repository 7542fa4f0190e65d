"""Persistent evolution strategies."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax import register
from seqjax.gradients import Memory, mapped, sees_vmap, weighted_sum, without_resets

from .es import ES, perturbations, run_steps, slope


@register("gradient", "pes")
@dataclass(frozen=True)
class PES(ES):
    """Evolution strategies whose particles are carried from window to window.

        A_i ← A_i + ε_i,   g = 1/(N σ²) Σ_i A_i L_i(θ + ε_i),   ε ∈ {±σ}^P, in pairs ε and -ε

    L_i is the loss of the window for particle i, which starts in the state that this particle has reached. ε_i is drawn
    anew for each window, and A_i is the sum of all perturbations of the particle since the row was reset (Vicol, Metz &
    Sohl-Dickstein 2021, "Unbiased gradient estimation in unrolled computation graphs with persistent evolution
    strategies", arXiv:2112.13835). Windows are the unrolls of the paper. At fixed parameters the mean, summed over
    windows, is the gradient through the whole history of a smoothed loss, in which the parameters are perturbed in each
    window independently. It is exact for a loss linear in θ, and else biased to order σ²; `es` says how signs smooth a
    loss. The returned loss and state belong to an unperturbed row. The strategy costs N + 1 forward passes. A row holds
    the states of its particles and N/2 times P numbers, for P parameters. The variance grows with the number of
    windows.
    """

    cites = ("vicol2021unbiased",)

    of = "history"

    def init(self, problem, params, state, x=None):
        """Whether a window has been run (no), A = 0, float[N/2, P], and the particles' states, leaves [N, ...]."""
        theta, _ = ravel_pytree(params)
        states = jax.tree.map(lambda a: jnp.repeat(a[None], self.particles, 0), state)
        A = jnp.zeros((self.particles // 2, theta.size), theta.dtype)
        return Memory(rows=(jnp.zeros((), bool), A, states))

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Takes every particle through the window, and the unperturbed row."""
        theta, unravel = ravel_pytree(params)
        begun, A, states = memory.rows
        eps = perturbations(noise, self.sigma, theta.dtype)

        # The losses before the first reset inside of the window, and the losses after it, which older ε do not change.
        anew_T = _begun_anew(problem, xs)
        parts = [weights] if anew_T is None else [jnp.where(anew_T, 0, weights), jnp.where(anew_T, weights, 0)]

        def run(eps, state):
            params = unravel(theta + eps)
            first = start(params)  # the initial state of a reset row depends on the perturbed parameters
            state = jax.tree.map(lambda a, b: jnp.where(begun, a, b), state, first)
            state, losses_T = run_steps(problem, params, state, xs)
            return state, [weighted_sum(part, losses_T) for part in parts]

        one_by_one = sees_vmap(problem.step, params, start(params), jax.tree.map(lambda a: a[0], xs))
        states, sums = mapped(run, (0, 0), self.particles, one_by_one)(jnp.concatenate([eps, -eps]), states)
        state, losses_T = run_steps(problem, params, start(params), xs)
        # The first part depends on all perturbations so far; the second part, if there is one, only on this window's.
        grads = sum(slope(losses, B, self.sigma) for losses, B in zip(sums, (A + eps, eps), strict=False))
        A = A + eps if anew_T is None else jnp.where(anew_T[-1], eps, A + eps)
        return weighted_sum(weights, losses_T), unravel(grads), state, Memory(rows=(jnp.ones((), bool), A, states))


def _begun_anew(problem, xs):
    """Whether a reset lies at a step or before it, bool[T]; None: no step is reset."""
    reset_T = without_resets(problem, xs).reset
    return None if reset_T is None else jnp.cumsum(jnp.where(reset_T, 1, 0)) > 0

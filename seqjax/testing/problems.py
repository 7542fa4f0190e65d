"""Problems of the literature that show the differences between gradient strategies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.gradients.problem import Problem

INFLUENCE = 0.5 * (np.eye(23) + np.eye(23, k=1)), np.where(np.arange(23) < 10, 1.0, -1.0)
"""The matrix A and the vector b of influence balancing."""


@functools.cache
def influence_balancing(back: int = 1) -> Problem:
    """A linear system with one parameter θ, whose gradient has the wrong sign unless it reaches back 41 steps.

        s_t = A s_{t-1} + θ b,   l_t = ½ (s_t[0] - 1)²

    in 23 dimensions, from s = 1 (Tallec & Ollivier 2018, "Unbiased online recurrent optimization", arXiv:1702.05043).
    Within K steps θ moves s[0] by S_K = Σ_{k<K} (A^k b)[0]. This sum is positive up to K = 40 and converges to -6, so
    that the loss has its minimum, 0, at θ = -1/6.

    Args:
        back: each loss is differentiated through the last `back` steps, which are replayed with the current parameter
            from a stored state. This is independent of what a strategy does with the state that enters a step.

    Returns:
        A problem with θ float[] and x = (c, anything). If c is 0, no step is taken; otherwise the loss is multiplied by
        c.
    """
    A, b = INFLUENCE

    def again(s, taken, theta):
        return jnp.where(taken, A @ s + theta * b, s), None

    def step(theta, state, x):
        past, n = state  # the states before the last `back` steps, and the number of steps so far
        now, _ = again(past[-1], True, theta)
        taken = jnp.arange(back, dtype=jnp.int32) + n >= back - 1
        s, _ = jax.lax.scan(functools.partial(again, theta=theta), past[0], taken)
        # The replayed state may be that of older parameters: the loss gets its derivative, and the true state's value.
        s = now if back == 1 else jax.lax.stop_gradient(now - s) + s
        past = jnp.where(x[0] > 0, jnp.concatenate([past[1:], now[None]]), past)
        return (past, n + 1), x[0] * 0.5 * (s[0] - 1) ** 2

    return Problem(step, lambda theta, key=None: (jnp.ones((back, 23), theta.dtype), jnp.int32(0)))

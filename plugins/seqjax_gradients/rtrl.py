"""Real-time recurrent learning."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax import Memory, SequenceGradient, ravel_float, register
from seqjax.gradient import weighted_sum


@register("gradient", "rtrl")
@dataclass(frozen=True)
class RTRL(SequenceGradient):
    """Forward-mode gradient through the whole history, by an influence matrix M_t = ds_t/dθ.

        M_t = J_t M_{t-1} + I_t,   J_t = ∂s_t/∂s_{t-1},   I_t = ∂s_t/∂θ
        dl_t/dθ = ∂l_t/∂s_{t-1} M_{t-1} + ∂l_t/∂θ

    M is carried from window to window, so nothing is cut. Exact at fixed parameters: after an update the
    carried M is that of the parameters before it. Costs S·P numbers and S²·P multiplications a row and step,
    S state units and P parameters (Williams & Zipser 1989, "A learning algorithm for continually running
    fully recurrent neural networks").
    """

    claim = "exact"
    of = "history"

    def init(self, problem, params, state):
        """M = 0, float[S, P]; what the initial state owes to the parameters is added where a window starts."""
        theta, _ = ravel_pytree(params)
        s, _, _ = ravel_float(state)
        return Memory(rows=jnp.zeros((s.size, theta.size), theta.dtype))

    def one(self, problem, params, start, memory, xs, weights, noise):
        """Carries M along the window."""
        theta, unravel = ravel_pytree(params)
        weights = weights.astype(theta.dtype)
        s, others, join = ravel_float(start(params))
        M = memory.rows + jax.jacrev(lambda theta: ravel_float(start(unravel(theta)))[0])(theta)

        def step(theta, s, others, x):
            state, loss = problem.step(unravel(theta), join(s, others), x)
            s, others, _ = ravel_float(state)
            return (s.astype(theta.dtype), loss.astype(theta.dtype)), (s, others, loss)

        def body(carry, inputs):
            s, others, M, grad = carry
            x, weight = inputs
            ((I, J), (l_theta, l_s)), (s, others, loss) = jax.jacrev(step, (0, 1), has_aux=True)(theta, s, others, x)
            grad = grad + weight * (l_s.astype(theta.dtype) @ M + l_theta)
            return (s, others, J.astype(theta.dtype) @ M + I, grad), loss

        (s, others, M, grad), losses = jax.lax.scan(body, (s, others, M, jnp.zeros_like(theta)), (xs, weights))
        return weighted_sum(weights, losses), unravel(grad), join(s, others), Memory(rows=M)

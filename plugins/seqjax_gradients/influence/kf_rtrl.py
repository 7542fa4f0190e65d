"""Kronecker-factored real-time recurrent learning."""

from dataclasses import dataclass

import jax.numpy as jnp

from seqjax import register

from ._kronecker import Kronecker, Sum

SMALL = 1e-7
"""What is added to a norm, so that no p is zero or infinite."""


@register("gradient", "kf-rtrl")
@dataclass(frozen=True)
class KFRTRL(Kronecker):
    """Forward-mode gradient through the whole history, from one random Kronecker product for each weight matrix.

    The influence M_t = ∂s_t/∂W of a matrix that multiplies a vector a_t is replaced by u_t ⊗ A_t, whose expectation it
    is (Mujika, Meier & Steger 2018, "Approximating real-time recurrent learning with random Kronecker factors",
    arXiv:1805.10842). A step adds I_t = a_t ⊗ D_t, with D_t = ∂s_t/∂(a_t W). With a random sign σ,

        p0 = √(|J_t A| / |u|),   p1 = √(|D_t| / |a_t|),   J_t = ∂s_t/∂s_{t-1}
        u ← p0 u + σ p1 a_t,   A ← J_t A / p0 + σ D_t / p1
        dl_t/dW ≈ u_{t-1} ⊗ (q_t A_{t-1}) + ∂l_t/∂W,   q_t = ∂l_t/∂s_{t-1}

    The mean over σ of the new product is u ⊗ J_t A + a_t ⊗ D_t. In the paper one product holds all weights of a layer,
    with [x_t, h_{t-1}, 1] as its vector. Here each matrix has its own, which needs no assumption on how the products
    are used and has no larger variance, and the influence of biases and other vectors is exact. It is carried with S
    numbers for each entry.

    Each weight matrix has to enter the step through one product with a vector (or the choice of a row by an id), and
    may not change the initial state. Before the product its entries may be multiplied by constants, such as the mask of
    a sparse `Cell`. It holds for the cells of seqjax and for most steps of one's own.

    The gradient is unbiased at fixed parameters; after an update u and A still belong to the parameters before it. The
    variance is smaller than with `uoro` by a factor of about S. A step takes S + m forward derivatives and a product of
    [S, S] and [S, m], for a matrix with n inputs and m outputs, and S m + n numbers are carried. For a problem without
    a model (S + 1) max(m, n) numbers are carried for each matrix, also for a read-out: which of its axes is summed
    over, and whether it changes the state, is only known when the first input comes.
    """

    cites = ("mujika2018approximating",)

    @property
    def length(self):
        return 1

    @property
    def num_signs(self):
        return 1

    def shorten(self, products, signs):
        (u, a), (A, D) = products
        p0, p1 = _ratio(A, u), _ratio(D, a)
        return Sum((p0 * u + signs[0] * p1 * a)[None], (A / p0 + signs[0] * D / p1)[None])


def _ratio(numerator, denominator):
    """The root of the quotient of two norms."""
    return jnp.sqrt((jnp.linalg.norm(numerator) + SMALL) / (jnp.linalg.norm(denominator) + SMALL))

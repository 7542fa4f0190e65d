"""The optimal Kronecker sum."""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import register

from ._kronecker import Kronecker, Sum


@register("gradient", "ok")
@dataclass(frozen=True)
class OK(Kronecker):
    """`kf-rtrl` with a sum of r Kronecker products for each weight matrix, shortened with the least variance.

    Written as a matrix, Σ_{i ≤ r} u_i ⊗ J_t A_i + a_t ⊗ D_t has rank r + 1. With its singular values d_1 ≥ d_2 ≥ ... it
    is Σ_i d_i l_i ⊗ R_i. The m largest terms are kept as they are, where m is the least number with

        (r - m) d_{m+1} ≤ d_{m+1} + ... + d_{r+1} = s

    and the others are mixed: with z_i = √(1 - d_i (r - m) / s) for i > m, which is a unit vector, an orthonormal basis
    Z [r + 1 - m, r - m] of the vectors orthogonal to z, and random signs σ,

        Y = √(s / (r - m)) diag(σ) Z,   E Y Yᵀ = diag(d_{m+1}, ..., d_{r+1})

    so that the columns of Y mix the l_i, and likewise the R_i, to r - m products with the right mean. No other sum of r
    products with this mean has a smaller variance (Benzing et al. 2019, "Optimal Kronecker-sum approximation of real
    time recurrent learning", arXiv:1902.03993, theorem 1). In the paper one sum holds all weights of a layer; here each
    matrix has its own, see `kf-rtrl`, which also says which steps can be used.

    The gradient is unbiased at fixed parameters. A step costs r times as much as with `kf-rtrl`, and for each matrix
    two QR decompositions, of [n, r + 1] and [S m, r + 1], and a small SVD. It carries r times the numbers of `kf-rtrl`.
    """

    cites = ("benzing2019optimal",)

    rank: Annotated[int, Interval(ge=1)] = 4
    """r, the number of Kronecker products of a sum."""

    @property
    def length(self):
        return self.rank

    @property
    def num_signs(self):
        # Y Yᵀ does not change with the sign of all σ together, so the last one is 1.
        return self.rank

    def shorten(self, products, signs):
        given, shape = products.A.dtype, products.A.shape[1:]
        # There is no decomposition in less than float32.
        u, A, signs = (each.astype(np.promote_types(given, np.float32)) for each in (*products, signs))
        # u and A have few columns, so their singular values follow from the singular values of a small matrix.
        Q_u, R_u = jnp.linalg.qr(u.T)
        Q_A, R_A = jnp.linalg.qr(A.reshape(len(A), -1).T)
        left, d, right = jnp.linalg.svd(R_u @ R_A.T, full_matrices=False)
        Y = _mix(d, self.rank, jnp.append(signs, 1))
        short = (Q_u @ (left @ Y)).T, (Q_A @ (right.T @ Y)).T.reshape(self.rank, *shape)
        return Sum(*(each.astype(given) for each in short))


def _mix(d, rank, signs):
    """A matrix Y with E Y Yᵀ = diag(d), float[len(d), rank], whose variance is the smallest.

    Args:
        d: the singular values in falling order, at most rank + 1 of them.
        rank: r.
        signs: float[rank + 1].
    """
    count = len(d)
    d = jnp.pad(d, (0, rank + 1 - count))
    index = jnp.arange(rank + 1)
    rest = jnp.flip(jnp.cumsum(jnp.flip(d)))  # d_i and all smaller ones
    kept = jnp.argmax((rank - index).astype(d.dtype) * d <= rest)  # the least m
    mixed, s, k = index >= kept, rest[kept], (rank - kept).astype(d.dtype)
    share = jnp.where(s > 0, d * k / jnp.where(s > 0, s, 1), (index < rank).astype(d.dtype))
    z = jnp.sqrt(jnp.where(mixed, jnp.maximum(1 - share, 0), 0))
    z = z / jnp.linalg.norm(z)
    # The reflection that takes the last unit vector to z takes the others to a basis of what is orthogonal to z. It
    # changes none of the first m.
    v = z.at[-1].add(-1)
    size = v @ v
    reflection = jnp.eye(rank + 1, dtype=d.dtype) - 2 * jnp.outer(v, v) / jnp.where(size > 0, size, 1)
    scale = jnp.sqrt(jnp.where(mixed, s / k, d))
    return ((signs * scale)[:, None] * reflection[:, :rank])[:count]

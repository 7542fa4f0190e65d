"""Matrix products that are fast on a CPU, and products whose operands are rounded."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def product(x: Array, W: Array, dtype: Any = None) -> Array:
    """x W, in the dtype of W.

    Args:
        x: float[..., n]; float[n] in one step of one sequence, whose product is differentiated in both modes.
        W: float[n, m].
        dtype: the dtype to which the operands are rounded, here and in the reverse pass; None: the dtype of W.
    """
    if dtype is None:
        return x @ W
    return rounded(x, dtype) @ rounded(W, dtype) if x.ndim == 1 else _rounded_product(dtype, x, W)


def rounded(x: Array, dtype: Any) -> Array:
    """x with its numbers, and later their derivatives, rounded to a dtype, but kept in its own; None: unchanged.

    A product of numbers that are rounded to bfloat16 is exact in float32, so that this gives the same as operands in
    bfloat16 with sums in float32. XLA would remove a cast to bfloat16 and back.
    """
    if dtype is None:
        return x
    bits = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, exponent_bits=bits.nexp, mantissa_bits=bits.nmant)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded_product(dtype, x, W):
    """x W with operands that are rounded to `dtype`. JAX's own derivative would not round dy."""
    return matmul(x.astype(dtype), W.astype(dtype), W.dtype)


def _rounded_product_forward(dtype, x, W):
    return _rounded_product(dtype, x, W), (x, W)


def _rounded_product_backward(dtype, residuals, dy):
    x, W = residuals
    dx = matmul(dy.astype(dtype), W.astype(dtype), x.dtype, axis=1)
    rows, dy_rows = (a.reshape(-1, a.shape[-1]).astype(dtype) for a in (x, dy))
    return dx, matmul(transposed(rows), dy_rows, W.dtype)


_rounded_product.defvjp(_rounded_product_forward, _rounded_product_backward)


def matmul(x, W, dtype, axis=0):
    """x W, or x Wᵀ if axis is 1, in `dtype`, with sums in float32 at least.

    On a CPU, XLA computes bfloat16 as such only if the result of the product is float32, and if neither operand is a
    view that `W.T` or `x.T` makes; otherwise it converts the operands to float32.
    """
    contracted = ((x.ndim - 1,), (axis,)), ((), ())
    sums = np.result_type(x.dtype, np.float32)
    return jax.lax.dot_general(x, W, contracted, preferred_element_type=sums).astype(dtype)


def transposed(W):
    """A copy of Wᵀ. On a CPU, XLA must not merge it into the products, which would then take longer.

    XLA's loop would read columns of W, whose numbers lie far apart and often share few lines of the cache. Each panel
    of 16 rows is therefore transposed first, which takes a third to a fifth of the time. The barriers are around
    vectors: around a matrix, XLA would take the copy for a view of W, and compute a product of bfloat16 in float32.
    Other devices read a view of W as fast as a copy.
    """

    def by_panels(W):
        n, m = W.shape
        k = math.gcd(n, 16)
        copied = jax.lax.optimization_barrier
        panels = copied(W.reshape(n // k, k, m).swapaxes(1, 2).reshape(-1)).reshape(n // k, m, k)
        return copied(panels.swapaxes(0, 1).reshape(-1)).reshape(m, n)

    return jax.lax.platform_dependent(W, cpu=by_panels, default=jnp.transpose)


def times(x, W, W_transposed, axis):
    """x W, or x Wᵀ if axis is 1, for x [B, n]: the result has the dtype of x, the operands have the dtype of W.

    On a CPU a product in float32 with few rows is faster as (Wᵀ xᵀ)ᵀ, although xᵀ and the result are copied: XLA's
    product reads a wide second operand slowly. With 16 rows on one core of an AMD EPYC, [16, 512] [512, 2048] runs at
    56 GFLOP/s and [2048, 512] [512, 16] at 84; the gradient of 35 steps takes .71 of the time for an LSTM of 512 units,
    .77 for a GRU, .88 for an RNN, and .88 for an LSTM of 256. With fewer than 8 or more than 32 rows, or smaller
    matrices, it takes 1 to 1.2 times as long.
    """

    def turned(x, right, left):
        barrier = jax.lax.optimization_barrier
        return barrier(left @ barrier(x.T)).T

    def plain(x, right, left):
        return x @ right

    if x.dtype != W.dtype:
        return matmul(x.astype(W.dtype), W, x.dtype, axis)
    right, left = (W, W_transposed) if axis == 0 else (W_transposed, W)
    if 8 <= len(x) <= 32 and W.size >= 2**17:
        return jax.lax.platform_dependent(x, right, left, cpu=turned, default=plain)
    return plain(x, right, left)

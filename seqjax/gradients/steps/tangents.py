"""A value with the tangent of another one.

This is what a cut, an edge weight and a masked loss need: the value stays, and the derivative changes. It is a
primitive of its own and no `jax.custom_jvp`, since JAX up to 0.11 forgets such a rule in the reverse derivative of a
scan: a second derivative would silently be that of the value.
"""

import jax.numpy as jnp
from jax.interpreters import ad, batching
from jaxtyping import Array, Num

from seqjax.gradients.steps.primitives import first_argument


def with_tangent_of(value: Num[Array, "*shape"], source: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
    """Returns `value`, whose derivatives of all orders are those of `source`.

    The computation of `source` is removed where it is not differentiated.

    Args:
        value: floats or complex numbers.
        source: of the same shape and dtype.

    Example:
    >>> import jax, jax.numpy as jnp
    >>> from seqjax.gradients.steps.tangents import with_tangent_of
    >>> jax.value_and_grad(lambda x: with_tangent_of(jnp.inf * x, 3 * x))(2.0)
    (Array(inf, dtype=float32, weak_type=True), Array(3., dtype=float32, weak_type=True))
    """
    return WITH_TANGENT_OF.bind(value, source)


WITH_TANGENT_OF = first_argument("with_tangent_of")


def _derivative(primals, tangents):
    return with_tangent_of(*primals), tangents[1]


def _batched(arguments, axes):
    size = next(a.shape[axis] for a, axis in zip(arguments, axes, strict=True) if axis is not None)
    rows = [
        jnp.broadcast_to(a, (size, *jnp.shape(a))) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(arguments, axes, strict=True)
    ]
    return with_tangent_of(*rows), 0


def _transposed(cotangent, value, source):
    # A linear function is transposed as it computes: its values are those of `value`. No derivative comes here, since
    # the tangents of a computation have left the primitive.
    return cotangent if ad.is_undefined_primal(value) else None, None


ad.primitive_jvps[WITH_TANGENT_OF] = _derivative
ad.primitive_transposes[WITH_TANGENT_OF] = _transposed
batching.primitive_batchers[WITH_TANGENT_OF] = _batched

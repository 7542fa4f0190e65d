"""The float leaves of a tree, apart from the leaves that have no tangent: ids, counters, keys."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree


def split_float(tree: PyTree) -> tuple[list[Float[Array, "..."]], list[Any], Callable[[list, list], PyTree]]:
    """Splits a tree into its float leaves and its other leaves.

    Args:
        tree: any pytree of arrays, such as a state.

    Returns:
        The float leaves, the other leaves, and a function `join(floats, others)` that puts them together again.
    """
    leaves, treedef = jax.tree.flatten(tree)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    parts = [[leaf for leaf, f in zip(leaves, is_float, strict=True) if f == kind] for kind in (True, False)]

    def join(floats, others):
        left = {True: iter(floats), False: iter(others)}
        return jax.tree.unflatten(treedef, [next(left[f]) for f in is_float])

    return parts[0], parts[1], join


def ravel_float(tree: PyTree) -> tuple[Float[Array, " n"], list, Callable[[Array, list], PyTree]]:
    """Splits a tree into one vector, which holds the numbers of all its float leaves, and its other leaves.

    Args:
        tree: any pytree of arrays, such as a state.

    Returns:
        The vector, the other leaves, and a function `join(vector, others)` that puts them together again, each float
        leaf in its own dtype. A vector of leaves of several precisions has the highest of them.
    """
    floats, others, join_leaves = split_float(tree)
    with jax.numpy_dtype_promotion("standard"):
        vector, unravel = ravel_pytree(floats or jnp.zeros(0))

    def join(vector, others):
        return join_leaves(unravel(vector) if floats else [], others)

    return vector, others, join

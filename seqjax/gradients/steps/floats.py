"""Separates the float leaves of a tree from leaves without a tangent, such as ids, counters and keys."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    # A step may return Python numbers in its state.
    leaves = [leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in leaves]
    is_float = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    parts = [[leaf for leaf, f in zip(leaves, is_float, strict=True) if f == kind] for kind in (True, False)]

    def join(floats, others):
        left = {True: iter(floats), False: iter(others)}
        return jax.tree.unflatten(treedef, [next(left[f]) for f in is_float])

    return parts[0], parts[1], join


def partition_float(tree: PyTree) -> tuple[PyTree, PyTree]:
    """Splits a tree into two trees of its structure: one with the float leaves, one with the others, None elsewhere.

    Args:
        tree: any pytree. Its leaves may be arrays, Python numbers, or objects that are no arrays at all.

    Returns:
        The tree of the float leaves as arrays, among them Python floats as in `jax.grad`; and the tree of the other
        leaves.
    """

    def is_float(leaf):
        return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)

    tree = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, float | np.ndarray) else leaf, tree)
    floats = jax.tree.map(lambda leaf: leaf if is_float(leaf) else None, tree)
    return floats, jax.tree.map(lambda leaf: None if is_float(leaf) else leaf, tree)


def combine(floats: PyTree, others: PyTree) -> PyTree:
    """Joins the two trees that `partition_float` returns."""
    return jax.tree.map(lambda a, b: b if a is None else a, floats, others, is_leaf=lambda leaf: leaf is None)


def leaf_names(tree: PyTree, name: str) -> list[tuple[str, Any]]:
    """The leaves of a tree with their names, such as "layer_0.W"; a tree that is a single leaf is called `name`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or name, leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def ravel_float(tree: PyTree) -> tuple[Float[Array, " n"], list, Callable[[Array, list], PyTree]]:
    """Splits a tree into one vector, which holds the numbers of all its float leaves, and its other leaves.

    Args:
        tree: any pytree of arrays, such as a state.

    Returns:
        The vector, the other leaves, and a function `join(vector, others)` that puts them together again, each float
        leaf in its own dtype. If the leaves differ in precision, the vector has the highest one.
    """
    floats, others, join_leaves = split_float(tree)
    with jax.numpy_dtype_promotion("standard"):
        vector, unravel = ravel_pytree(floats or jnp.zeros(0))

    def join(vector, others):
        return join_leaves(unravel(vector) if floats else [], others)

    return vector, others, join


def norm(tree: PyTree) -> Float[Array, ""]:
    """The norm of all numbers of a tree together, in float32 at least; scaled so that no square over- or underflows."""
    dtype = np.result_type(np.float32, *[a.dtype for a in jax.tree.leaves(tree)])
    leaves = [jnp.abs(a.astype(dtype)) for a in jax.tree.leaves(tree)]
    largest = functools.reduce(jnp.maximum, [a.max(initial=0) for a in leaves])
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(sum(jnp.sum(jnp.square(a / scale)) for a in leaves))

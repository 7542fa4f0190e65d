"""The precisions, and a step that is rounded to bfloat16; `models/layered.py` rounds its own models."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from seqjax.errors import Error

Precision = Literal["float32", "bfloat16"]
"""How steps are computed. `float32`: in the dtype of the parameters, which is float64 if JAX's x64 is on. `bfloat16`:
in a `Cell` or an `Elementwise` the operands of products are rounded to bfloat16, and the state is not; in any other
step all float arguments are rounded. Parameters, their gradients and losses keep the dtype of the parameters."""


def check_precision(precision: Any) -> None:
    """Raises an `Error` unless this is a precision."""
    if not isinstance(precision, str) or precision not in get_args(Precision):
        raise Error(f"precision = {precision!r} must be one of: {', '.join(get_args(Precision))}")


def cast_float(tree: PyTree, dtype: Any) -> PyTree:
    """The tree with its float leaves in another dtype."""
    return jax.tree.map(lambda a: a.astype(dtype) if is_float(a) else a, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree with each float leaf in the dtype of the leaf of `like`: a scan carries a state of one dtype.

    A tree of another structure is returned unchanged, so that the check of the scan can name the difference.
    """
    if str(jax.tree.structure(tree)) != str(jax.tree.structure(like)):
        return tree
    return jax.tree.map(lambda a, b: a.astype(b.dtype) if is_float(a) else a, tree, like)


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a real float array. A leaf may be any object, such as a function."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def step_in_bfloat16(step: Callable) -> Callable:
    """The same step (params, state, x) -> (state, result), computed in bfloat16.

    Its float arguments are rounded to bfloat16; complex ones are not, since no complex dtype has this precision. The
    new state gets the dtypes of the old one, and the float leaves of the result get the dtype of the parameters. In a
    scan, each step rounds the parameters again, so that their gradient is summed over the steps in their own dtype.
    """

    def rounded(params: PyTree, state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        floats = [leaf.dtype for leaf in jax.tree.leaves(params) if is_float(leaf)]
        new, result = step(*(cast_float(tree, jnp.bfloat16) for tree in (params, state, x)))
        return cast_like(new, state), cast_float(result, jnp.result_type(*(floats or [float])))

    return rounded

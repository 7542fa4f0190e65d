"""Comparison of two trees of arrays, and the errors that are raised where they differ."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.errors import Error

BOUND = 1e-12
"""The largest relative error, in float64, between values that must be equal."""


class Failed(Error):  # noqa: N818
    """A check has failed. `error` is the measured error, if the check measures one."""

    def __init__(self, message: str, error: float | None = None):
        self.error = error
        super().__init__(message)


class Skipped(Exception):  # noqa: N818
    """A check cannot be made here; the message says why."""


def assert_close(got: Any, want: Any, what: str, bound: float = BOUND) -> float:
    """The largest error, relative to the largest entry of its leaf. Empty leaves count as equal.

    Args:
        got: the tree that is checked.
        want: the right values.
        what: what the tree is, for the message.
        bound: the largest error that is allowed.

    Raises:
        Failed: another structure or shape, a number that is not finite, or an error above `bound`.
    """
    got, want = jax.tree.map(_numbers, (got, want))
    if str(jax.tree.structure(got)) != str(jax.tree.structure(want)):
        raise Failed(f"{what}: the tree is {jax.tree.structure(got)}, and must be {jax.tree.structure(want)}")
    worst, at = 0.0, what
    for (path, w), g in zip(jax.tree.leaves_with_path(want), jax.tree.leaves(got), strict=True):
        name = what + jax.tree_util.keystr(path)
        if g.shape != w.shape:
            raise Failed(f"{name}: the shape is {g.shape}, and must be {w.shape}")
        if not np.isfinite(g).all() and np.isfinite(w).all():
            raise Failed(f"{name}: not finite (NaN or infinite), but the true value is finite", np.inf)
        error = float(np.max(np.abs(g - w)) / (np.max(np.abs(w)) or 1.0)) if w.size else 0.0
        if not error <= worst:
            worst, at = error, name
    if np.isnan(worst):
        raise Failed(f"{at}: not finite (NaN or infinite), and so is the value that it is compared with", worst)
    if not worst <= bound:
        raise Failed(f"{at}: worst relative error {worst:.1e} > {bound:.0e}", worst)
    return worst


def assert_far(got: Any, want: Any, what: str, at_least: float = 1e-3) -> None:
    """Checks that some leaf differs by more than `at_least`, relative to its largest entry.

    Raises:
        Failed: no leaf does.
    """
    try:
        assert_close(got, want, what, at_least)
    except Failed:
        return
    raise Failed(f"{what}: differs by less than {at_least:.0e}")


def relative_error(got: Any, want: Any) -> float:
    """||got - want|| / ||want||, over all leaves together."""
    got, want = (
        np.concatenate([np.ravel(_numbers(a)) for a in jax.tree.leaves(tree)] or [np.zeros(0)]) for tree in (got, want)
    )
    return float(np.linalg.norm(got - want) / (np.linalg.norm(want) or 1.0))


def _numbers(leaf: Any) -> np.ndarray:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf, np.float64)

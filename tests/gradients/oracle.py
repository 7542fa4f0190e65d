"""Names that tests of strategies use."""

import jax
import jax.numpy as jnp
from checks import CUTS  # noqa: F401

from seqjax.testing.cases import FRESH, B, T, case  # noqa: F401
from seqjax.testing.oracle import Truth, truth, truth_of_rows  # noqa: F401


def _scale_tangent(state, gate):
    if gate == 1:
        return state

    def leaf(a):
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        held = jax.lax.stop_gradient(a)
        return held if gate == 0 else held + gate * (a - held)

    return jax.tree.map(leaf, state)

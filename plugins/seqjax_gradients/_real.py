"""Strategies that carry derivatives forwards only take real numbers."""

from typing import Any

import jax.numpy as jnp

from seqjax import Error
from seqjax.gradients import leaf_names


def check_real(strategy: Any, params: Any, state: Any) -> None:
    """Checks that no parameter and no state is complex.

    A derivative by a complex number has two parts, and what such a strategy carries has one number for both.

    Raises:
        Error: one is.
    """
    for what, tree in {"parameter": params, "state": state}.items():
        for name, leaf in leaf_names(tree, ""):
            if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
                raise Error(
                    f"{type(strategy).__name__} carries derivatives of real numbers, and the {what} {name} is complex: "
                    "keep it as two floats, such as seqjax.models.ComplexState"
                )

"""Which leaves of its argument a function depends on, found by tracing it."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal


def depends_on(f: Callable[[Any], Any], tree: Any) -> list[bool]:
    """For each leaf of `tree`, whether `f(tree)` depends on it. Nothing is computed.

    The equations of f's jaxpr are followed back from its outputs. An equation that holds a jaxpr of its own, such as a
    scan, counts as one step: each of its outputs is taken to depend on all of its inputs.

    Args:
        f: a function of one argument.
        tree: its argument, any pytree of arrays.
    """
    jaxpr = jax.make_jaxpr(f)(tree).jaxpr
    used = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if used.intersection(equation.outvars):
            used.update(v for v in equation.invars if not isinstance(v, Literal))
    return [v in used for v in jaxpr.invars]

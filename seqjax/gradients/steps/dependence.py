"""Which leaves of its argument a function depends on, found by tracing it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal, Var


def needed_by(outputs: Sequence[Any], jaxpr: Jaxpr) -> set[Var]:
    """The variables of a jaxpr on which `outputs` depend, including `outputs`.

    The equations are followed back from `outputs`. An equation that holds a jaxpr of its own, such as a scan, counts as
    one step: each of its outputs is taken to depend on all of its inputs.
    """
    needed = {v for v in outputs if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return needed


def depends_on(f: Callable[[Any], Any], tree: Any) -> list[bool]:
    """For each leaf of `tree`, whether `f(tree)` depends on it, as far as `needed_by` can tell. Nothing is computed.

    Args:
        f: a function of one argument.
        tree: its argument, any pytree of arrays.
    """
    jaxpr = jax.make_jaxpr(f)(tree).jaxpr
    needed = needed_by(jaxpr.outvars, jaxpr)
    return [v in needed for v in jaxpr.invars]

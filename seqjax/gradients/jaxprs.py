"""Evaluates jaxprs equation by equation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.extend.core.primitives import jit_p


def inline_calls(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The jaxpr with the equations of jitted functions in place of their calls."""
    return jax.make_jaxpr(lambda *values: evaluate(closed, values))(*closed.in_avals)


def evaluate(
    closed: ClosedJaxpr, values: Sequence[Any], seen: Callable[[JaxprEqn, list, list], None] | None = None
) -> list[Any]:
    """The outputs of a jaxpr. A call of a jitted function becomes the equations of that function.

    Args:
        closed: the jaxpr.
        values: its inputs.
        seen: is called after each equation with the equation, its inputs, and its outputs.
    """
    known = dict(zip((*closed.jaxpr.constvars, *closed.jaxpr.invars), (*closed.consts, *values), strict=True))
    for equation in closed.jaxpr.eqns:
        inputs = _read(equation.invars, known)
        if equation.primitive is jit_p:
            outputs = evaluate(equation.params["jaxpr"], inputs, seen)
        else:
            outputs = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
            outputs = outputs if equation.primitive.multiple_results else [outputs]
            if seen is not None:
                seen(equation, inputs, outputs)
        known.update(zip(equation.outvars, outputs, strict=True))
    return _read(closed.jaxpr.outvars, known)


def _read(variables, known):
    return [v.val if isinstance(v, Literal) else known[v] for v in variables]

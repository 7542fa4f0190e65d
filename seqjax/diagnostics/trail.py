"""Follows a value that is not finite back through the equations of a jaxpr, and into the jaxprs of control flow."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn
from jax.extend.core.primitives import (
    closed_call_p,
    cond_p,
    custom_jvp_call_p,
    custom_vjp_call_p,
    remat_p,
    scan_p,
    while_p,
)

from seqjax.gradients.steps.jaxprs import evaluate

_CALLS = {
    custom_jvp_call_p: "call_jaxpr",
    custom_vjp_call_p: "call_jaxpr",
    closed_call_p: "call_jaxpr",
    remat_p: "jaxpr",
}
"""Primitives that call a jaxpr once, with the name of the parameter that holds it."""


class Made(NamedTuple):
    """How an array was made. `outputs` keeps the arrays alive, so that no other one takes their `id`."""

    order: int
    equation: JaxprEqn
    inputs: list
    outputs: list


class Trail(NamedTuple):
    """How far a value that is not finite was followed back.

    Args:
        at: the value at the end.
        argument: the number of the argument that it is; None: it is none.
        maker: the equation that made it from finite numbers; None: it is an argument or a constant.
        equation: the last equation on the way back; None: there was none.
        first_nan: the equation that made a NaN from numbers of which none was NaN; None: there was none.
    """

    at: Any
    argument: int | None
    maker: JaxprEqn | None
    equation: JaxprEqn | None
    first_nan: JaxprEqn | None


def recorded(closed: ClosedJaxpr, leaves: Sequence[Any]) -> tuple[list[Any], dict[int, Made]]:
    """The outputs of a jaxpr, which is computed equation by equation, and how each array was made, by its `id`."""
    made: dict[int, Made] = {}

    def seen(equation, inputs, outputs):
        for value in outputs:
            if not any(value is a for a in inputs):
                made.setdefault(id(value), Made(len(made), equation, inputs, outputs))

    return evaluate(closed, leaves, seen), made


def follow(at: Any, made: dict[int, Made], leaves: Sequence[Any], first_nan: JaxprEqn | None = None) -> Trail:
    """Follows a value back along values that are not finite, along NaN where there are some.

    Args:
        at: the value, which is not finite.
        made: how the arrays of its jaxpr were made.
        leaves: the arguments of this jaxpr.
        first_nan: see `Trail`; the equation of an outer jaxpr.
    """
    equation = None
    while id(at) in made:
        step = made[id(at)]
        inner = _inside(step, at, first_nan)
        if inner is None:
            before = [a for a in step.inputs if not is_finite(a)]
            nans = [a for a in before if has_nan(a)]
            if has_nan(at) and not nans:
                first_nan = step.equation
            if not before:
                return Trail(at, None, step.equation, step.equation, first_nan)
            equation, at = step.equation, (nans or before)[0]
        elif inner.argument is None:
            return inner
        else:
            equation, at, first_nan = inner.equation or step.equation, step.inputs[inner.argument], inner.first_nan
    argument = next((number for number, leaf in enumerate(leaves) if leaf is at), None)
    return Trail(at, argument, None, equation, first_nan)


def _inside(step: Made, at: Any, first_nan: JaxprEqn | None) -> Trail | None:
    """The trail of an output inside of the jaxprs of an equation, whose `argument` is the number of an input.

    None if the equation has no known jaxprs, or if the output is finite when it is computed again.
    """
    number = next(n for n, output in enumerate(step.outputs) if output is at)
    primitive, params, inputs = step.equation.primitive, step.equation.params, step.inputs
    if primitive is cond_p:
        trail = _through(params["branches"][int(inputs[0])], inputs[1:], number, first_nan)
        return _shifted(trail, 1)
    if primitive in _CALLS:
        return _through(params[_CALLS[primitive]], inputs, number, first_nan)
    if primitive is scan_p:
        return _through_scan(step, number, first_nan)
    if primitive is while_p:
        return _through_while(step, number, first_nan)
    return None


def _through(jaxpr: Any, leaves: Sequence[Any], number: int, first_nan: JaxprEqn | None) -> Trail | None:
    """The trail of an output of a jaxpr; None if this output is finite."""
    results, made = recorded(_closed(jaxpr), leaves)
    return None if is_finite(results[number]) else follow(results[number], made, leaves, first_nan)


def _through_scan(step: Made, number: int, first_nan: JaxprEqn | None) -> Trail | None:
    body, equation = _closed(step.equation.params["jaxpr"]), step.equation
    # Only what is read or written in each iteration has an axis of iterations.
    num_carry = _same_axes(equation.outvars, body.jaxpr.outvars)
    end = _same_axes(equation.invars, body.jaxpr.invars)
    start = end - num_carry
    order = list(range(equation.params["length"]))[:: -1 if equation.params["reverse"] else 1]
    carry, leaves_of = step.inputs[start:end], []
    for t in order:
        leaves_of.append([*step.inputs[:start], *carry, *(x[t] for x in step.inputs[end:])])
        carry = evaluate(body, leaves_of[-1])[:num_carry]
    if number >= num_carry:
        written = step.outputs[number]
        is_bad = has_nan if has_nan(written) else lambda a: not is_finite(a)
        leaves_of = leaves_of[: 1 + next(n for n, t in enumerate(order) if is_bad(written[t]))]
    return _through_iterations(body, leaves_of, range(start, end), number, first_nan)


def _through_while(step: Made, number: int, first_nan: JaxprEqn | None) -> Trail | None:
    params = step.equation.params
    goes_on, body = _closed(params["cond_jaxpr"]), _closed(params["body_jaxpr"])
    if goes_on.out_avals[0].shape:
        return None  # `vmap` has made one loop of many, which end at different iterations
    num_cond, start = params["cond_nconsts"], params["body_nconsts"]
    of_cond, carry = step.inputs[:num_cond], step.inputs[num_cond + start :]
    leaves_of = []
    while evaluate(goes_on, [*of_cond, *carry])[0]:
        leaves_of.append([*step.inputs[num_cond : num_cond + start], *carry])
        carry = evaluate(body, leaves_of[-1])
    trail = _through_iterations(body, leaves_of, range(start, start + len(carry)), number, first_nan)
    return _shifted(trail, num_cond)


def _through_iterations(
    body: ClosedJaxpr, leaves_of: list[list[Any]], carried: range, number: int, first_nan: JaxprEqn | None
) -> Trail | None:
    """The trail of an output of the last iteration of a loop, back to the iteration that made it, or to an argument.

    Args:
        body: the jaxpr of an iteration.
        leaves_of: its arguments in each iteration.
        carried: the arguments that are the first outputs of the iteration before.
        number: the number of the output.
        first_nan: see `Trail`.
    """
    trail = None
    for leaves in reversed(leaves_of):
        trail = _through(body, leaves, number, first_nan)
        if trail is None or trail.argument is None or trail.argument not in carried:
            return trail
        number, first_nan = trail.argument - carried.start, trail.first_nan
    return trail


def _shifted(trail: Trail | None, by: int) -> Trail | None:
    """The trail with the number of an input in place of the number of an argument of the inner jaxpr."""
    return trail and trail._replace(argument=None if trail.argument is None else trail.argument + by)


def _same_axes(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    """How many variables of a scan have as many axes as the variables of its body."""
    return sum(a.aval.ndim == b.aval.ndim for a, b in zip(outer, inner, strict=True))


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def is_finite(value: Any) -> bool:
    """Whether all numbers of an array are finite; one of integers or keys is."""
    return not jnp.issubdtype(jnp.result_type(value), jnp.inexact) or bool(jnp.isfinite(value).all())


def has_nan(value: Any) -> bool:
    """Whether an array has a NaN."""
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact) and bool(jnp.isnan(value).any())

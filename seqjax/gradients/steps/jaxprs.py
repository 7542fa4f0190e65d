"""Evaluates jaxprs equation by equation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive, jaxpr_as_fun
from jax.extend.core.primitives import jit_p


def inline_calls(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The jaxpr with the equations of jitted functions in place of their calls."""
    return jax.make_jaxpr(lambda *values: evaluate(closed, values))(*closed.in_avals)


def evaluate(
    closed: ClosedJaxpr,
    values: Sequence[Any],
    seen: Callable[[JaxprEqn, list, list], None] | None = None,
    inlined: Sequence[Primitive] = (jit_p,),
) -> list[Any]:
    """The outputs of a jaxpr. A call of a jitted function becomes the equations of that function.

    Args:
        closed: the jaxpr.
        values: its inputs.
        seen: is called after each equation with the equation, its inputs, and its outputs.
        inlined: the primitives of calls that become the equations of what they call.
    """
    known = dict(zip((*closed.jaxpr.constvars, *closed.jaxpr.invars), (*closed.consts, *values), strict=True))
    for equation in closed.jaxpr.eqns:
        inputs = _read(equation.invars, known)
        if equation.primitive in inlined:
            called = equation.params["jaxpr"]
            called = ClosedJaxpr(called, ()) if isinstance(called, Jaxpr) else called
            outputs = evaluate(called, inputs, seen, inlined)
        else:
            outputs = _outputs(equation, inputs)
            if seen is not None:
                seen(equation, inputs, outputs)
        known.update(zip(equation.outvars, outputs, strict=True))
    return _read(closed.jaxpr.outvars, known)


def evaluate_fixed(closed: ClosedJaxpr) -> tuple[list[Any], Callable[..., list[Any]]]:
    """Computes what does not depend on the inputs of a jaxpr.

    Args:
        closed: the jaxpr. An equation that holds a jaxpr of its own counts as one step.

    Returns:
        For each output its value, or None if it depends on an input. And a function that computes the outputs that are
        None, in order, from the inputs. The fixed values that it needs pass an optimization barrier. Without the
        barrier, XLA may compute them again for each number of a larger result.
    """
    jaxpr = closed.jaxpr
    fixed, varying, others = dict(zip(jaxpr.constvars, closed.consts, strict=True)), set(jaxpr.invars), []
    for equation in jaxpr.eqns:
        if varying.intersection(_variables(equation.invars)):
            varying.update(equation.outvars)
            others.append(equation)
        else:
            fixed.update(zip(equation.outvars, _outputs(equation, _read(equation.invars, fixed)), strict=True))
    depends = [bool(varying & _variables([v])) for v in jaxpr.outvars]
    taken = [v for v in fixed if any(v in _variables(equation.invars) for equation in others)]
    behind = jax.lax.optimization_barrier([fixed[v] for v in taken])

    def rest(*values):
        known = dict(zip((*taken, *jaxpr.invars), (*behind, *values), strict=True))
        for equation in others:
            known.update(zip(equation.outvars, _outputs(equation, _read(equation.invars, known)), strict=True))
        return _read([v for v, varies in zip(jaxpr.outvars, depends, strict=True) if varies], known)

    outputs = [None if varies else _read([v], fixed)[0] for v, varies in zip(jaxpr.outvars, depends, strict=True)]
    return outputs, rest


def split_closure(f: Callable, *args: Any) -> tuple[list[Any], Callable]:
    """The arrays that a function closes over, and the function of them: `g(closed_over, *args)` is `f(*args)`.

    Args:
        f: the function; it is traced once.
        args: its arguments, pytrees of arrays.
    """
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    structure = jax.tree.structure(shapes)

    def g(closed_over, *args):
        results = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, closed_over))(*jax.tree.leaves(args))
        return jax.tree.unflatten(structure, results)

    return closed.consts, g


def all_equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The equations of a jaxpr and of all jaxprs inside."""
    for equation in jaxpr.eqns:
        yield equation
        is_jaxpr = lambda value: isinstance(value, Jaxpr | ClosedJaxpr)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                yield from all_equations(value.jaxpr if isinstance(value, ClosedJaxpr) else value)


def _outputs(equation, inputs):
    outputs = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
    return outputs if equation.primitive.multiple_results else [outputs]


def _variables(atoms):
    return {v for v in atoms if not isinstance(v, Literal)}


def _read(variables, known):
    return [v.val if isinstance(v, Literal) else known[v] for v in variables]

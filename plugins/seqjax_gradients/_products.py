"""How parameters enter a step: a weight matrix through one product with a vector, or in another way.

A matrix that enters the step through one product alone, z = a W or z = W a, changes the new state s by

    ∂s/∂W = a ⊗ D,   D = ∂s/∂z

So the influence of n · m weights is known from n + S · m numbers. A row of W that is selected by an id is the product
of W with a vector which is 1 there and else 0. The product is found in the jaxpr of the step. To differentiate by z,
the jaxpr is cut there: its equation is left out, and z becomes an input.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun

from seqjax import Error
from seqjax.gradients import depends_on, leaf_names, mapped, ravel_float, split_step


class Product(NamedTuple):
    """A matrix that is multiplied by one vector.

    Args:
        axis: that of the matrix which is summed over: 0 in a W, 1 in W a.
        factors: (parameters, s, others, x) -> (a, z).
        after: (parameters, s, others, x, z) -> the float vector of the state after the step, [S].
    """

    axis: int
    factors: Callable
    after: Callable


Entry = Product | Literal["whole", "unused"]
"""How a parameter enters a step: through a product; as a vector or a scalar; or without changing the state."""


def entries(strategy: Any, problem: Any, params: Any, start: Callable, state: Any, x: Any) -> list[Entry]:
    """For each leaf of the parameters, how it enters the step.

    Args:
        strategy: whose name an error has.
        problem: gives the step.
        params: the parameters.
        start: params -> the states in which a sequence may start, a tree.
        state: the state of one sequence.
        x: what a step reads.

    Raises:
        Error: an array of two or more axes enters the step in another way than through one product with a vector.
    """
    advance, _ = split_step(problem.advance, params, state, x)
    s, others, join = ravel_float(state)

    def after(params, s, others, x):
        return ravel_float(advance(params, join(s, others), x)[0])[0]

    closed = jax.make_jaxpr(after)(params, s, others, x)
    of_step = depends_on(lambda params: after(params, s, others, x), params)
    of_start = depends_on(lambda params: ravel_float(start(params))[0], params)
    found: list[Entry] = []
    for index, (name, leaf) in enumerate(leaf_names(params, "params")):
        if not of_step[index] and not of_start[index]:
            found.append("unused")
        elif leaf.ndim < 2:
            found.append("whole")
        else:
            product = None if of_start[index] else _product(closed, closed.jaxpr.invars[index], leaf.shape)
            if product is None:
                raise Error(
                    f"{strategy!r}: the parameter {name} of shape {leaf.shape} must change the state through one "
                    f"product of the step alone, x @ {name} or {name} @ x with a vector x; use uoro or rtrl, which "
                    "take any step"
                )
            found.append(product)
    return found


def _product(closed: ClosedJaxpr, var: Var, shape: tuple) -> Product | None:
    """The product through which a matrix enters; None: it enters in another way."""
    uses = list(_uses(closed.jaxpr, var, False))
    if len(shape) != 2 or len(uses) != 1:
        return None
    equation, swapped = uses[0]
    axis = _summed_axis(equation, shape[::-1] if swapped else shape)
    if axis is None:
        return None
    (z,) = equation.outvars
    jaxpr = closed.jaxpr
    # What the product multiplies the matrix with: a vector, or where it takes the row from.
    operands = [v for v in equation.invars if isinstance(v, Var)]
    first = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(outvars=[*operands, z]), closed.consts))
    others = [each for each in jaxpr.eqns if each is not equation]
    second = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(invars=[*jaxpr.invars, z], eqns=others), closed.consts))

    def factors(*args):
        *values, z = first(*jax.tree.leaves(args))
        known = iter(values)
        inputs = [next(known) if isinstance(v, Var) else v.val for v in equation.invars]
        return _vector(equation, inputs, axis), z

    def after(*args):
        return second(*jax.tree.leaves(args))[0]

    return Product(1 - axis if swapped else axis, factors, after)


def _uses(jaxpr: Jaxpr, var: Var, swapped: bool) -> Iterator[tuple[JaxprEqn, bool]]:
    """The equations that read a matrix, and whether its axes are swapped there."""
    for equation in jaxpr.eqns:
        for read in equation.invars:
            if read is not var:
                continue
            if equation.primitive.name in ("convert_element_type", "copy"):
                yield from _uses(jaxpr, equation.outvars[0], swapped)
            elif equation.primitive.name == "transpose":
                yield from _uses(jaxpr, equation.outvars[0], not swapped)
            else:
                yield equation, swapped


def _summed_axis(equation, shape):
    """The axis of the matrix that an equation sums over; None: it is no product of the matrix with one vector."""
    name = equation.primitive.name
    if name == "dot_general":
        contracted, batched = equation.params["dimension_numbers"]
        ndims = [v.aval.ndim for v in equation.invars]
        if sorted(ndims) == [1, 2] and not any(batched) and all(len(axes) == 1 for axes in contracted):
            return contracted[ndims.index(2)][0]
    elif name in ("dynamic_slice", "slice"):  # one row or column
        return {(1, shape[1]): 0, (shape[0], 1): 1}.get(equation.outvars[0].aval.shape)
    elif name == "gather":
        picked = equation.params["dimension_numbers"].collapsed_slice_dims
        return picked[0] if len(picked) == 1 and equation.outvars[0].aval.ndim == 1 else None
    return None


def _vector(equation, inputs, axis):
    """a, from the values that the equation of the product reads."""
    if equation.primitive.name == "dot_general":
        return next(a for a in inputs if a.ndim == 1)
    # The same row or column of a matrix whose entries are the numbers of the rows or columns.
    matrix = inputs[0]
    count = matrix.shape[axis]
    numbers = jnp.broadcast_to(jnp.expand_dims(jnp.arange(count), 1 - axis), matrix.shape)
    # A row that is not there may be filled with a constant. It has no number, and no entry of `one_hot`.
    fill = {"fill_value": -1} if "fill_value" in equation.params else {}
    picked = equation.primitive.bind(numbers, *inputs[1:], **equation.params | fill)
    return jax.nn.one_hot(picked.ravel()[0], count, dtype=matrix.dtype)


def factors(found: list[Entry], after: Callable, params: Any, window: Any, at: tuple) -> tuple[Any, list]:
    """The derivatives of the state after a step. No array of the size S · n · m is formed.

    Args:
        found: what `entries` has returned.
        after: (parameters, s, others, x) -> the float vector of the state after the step, [S].
        params: the parameters.
        window: says whether the step sees `vmap`.
        at: (s, others, x) of the step.

    Returns:
        J by the state before it, [S, S]; and for each parameter (a [n], D [S, m]) of a product, I [S, size] of a
        vector, () of an unused one.
    """
    s, others, x = at
    leaves, treedef = jax.tree.flatten(params)

    def slopes(function, value):
        """The derivatives by all entries of an array, [S, size]."""
        units = jnp.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
        slope = lambda tangent: jax.jvp(function, (value,), (tangent,))[1]
        return mapped(slope, (0,), value.size, window.one_by_one)(units).T

    def of_leaf(index, entry):
        if entry == "unused":
            return ()
        if entry == "whole":
            replaced = lambda leaf: jax.tree.unflatten(treedef, [*leaves[:index], leaf, *leaves[index + 1 :]])
            return slopes(lambda leaf: after(replaced(leaf), s, others, x), leaves[index])
        a, z = entry.factors(params, s, others, x)
        return a, slopes(lambda z: entry.after(params, s, others, x, z), z)

    J = slopes(lambda s: after(params, s, others, x), s)
    return J, [of_leaf(index, entry) for index, entry in enumerate(found)]

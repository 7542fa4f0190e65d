"""How parameters enter a step: a weight matrix through one product with a vector, or in another way.

A matrix that enters the step through one product alone, z = a W or z = W a, changes the new state s by

    ∂s/∂W = a ⊗ D,   D = ∂s/∂z

So the influence of n · m weights is known from n + S · m numbers. A row of W that is selected by an id is the product
of W with a vector which is 1 there and else 0. If the product reads C ∘ W with constants C, such as the mask of a
sparse layer, this is the influence of C ∘ W, and the gradient is multiplied by C at the end. The product is found in
the jaxpr of the step. To differentiate by z, the jaxpr is cut there: its equation is left out, and z becomes an input.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun

from seqjax import Error
from seqjax.gradients import leaf_names, mapped, ravel_float
from seqjax.gradients.steps.dependence import depends_on
from seqjax.gradients.steps.scored import split_step


class Product(NamedTuple):
    """A matrix that is multiplied by one vector.

    Args:
        axis: the axis of the matrix that is summed over: 0 in a W, 1 in W a.
        shape: (n, m), the sizes of a and of z.
        factors: (parameters, s, others, x) -> (a, z).
        after: (parameters, s, others, x, z) -> the float vector of the state after the step, [S].
        scale: (parameters, s, others, x) -> the constants by which the entries of the matrix are multiplied before the
            product, such as a mask, like the matrix; None: there are none.
    """

    axis: int
    shape: tuple[int, int]
    factors: Callable
    after: Callable
    scale: Callable | None


Entry = Product | Literal["whole", "unused"]
"""How a parameter enters a step: through a product; as a vector or a scalar; or without changing the state."""


def entries(strategy: Any, advance: Callable, params: Any, start: Callable, state: Any, x: Any) -> list[Entry]:
    """For each leaf of the parameters, how it enters the step.

    Args:
        strategy: whose name an error has.
        advance: (parameters, state, x) -> (state, a loss or an output), the step.
        params: the parameters.
        start: params -> the states in which a sequence may start, a tree.
        state: the state of one sequence.
        x: what a step reads.

    Raises:
        Error: an array of two or more axes enters the step in another way than through one product with a vector.
    """
    advance, _ = split_step(advance, params, state, x)
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
            entry = "changes the initial state" if of_start[index] else _product(closed, index, leaf.ndim)
            if isinstance(entry, str):
                raise Error(
                    f"{strategy!r}: the parameter {name} of shape {leaf.shape} {entry}; here a matrix may change the "
                    f"state only through one product of a step with a vector v, v @ {name} or {name} @ v, or through "
                    f"one row, {name}[i]. Use rtrl or uoro, which take any step"
                )
            found.append(entry)
    return found


def _product(closed: ClosedJaxpr, index: int, ndim: int) -> Product | str:
    """The product through which a parameter enters, or what is found in its place.

    Args:
        closed: the step.
        index: the number of the parameter.
        ndim: of the parameter.
    """
    jaxpr = closed.jaxpr
    if ndim != 2:
        return f"has {ndim} axes"
    uses = list(_uses(jaxpr, jaxpr.invars[index], _constants(jaxpr)))
    names = ", ".join(use.equation.primitive.name for use in uses)
    if len(uses) != 1:
        return f"is used {len(uses)} times ({names})"
    equation, matrix, swapped, scaled = uses[0]
    axis = _summed_axis(equation, matrix.aval.shape)
    if axis is None:
        return f"enters the step through {names}, which is no product of the whole matrix with one vector"
    (z,) = equation.outvars
    # The other operand of the product: a vector, or the index of the row.
    operands = [v for v in equation.invars if isinstance(v, Var)]
    first = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(outvars=[*operands, z]), closed.consts))
    others = [each for each in jaxpr.eqns if each is not equation]
    second = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(invars=[*jaxpr.invars, z], eqns=others), closed.consts))
    before = jaxpr_as_fun(ClosedJaxpr(jaxpr.replace(outvars=[matrix]), closed.consts))

    def factors(*args):
        *values, z = first(*jax.tree.leaves(args))
        known = iter(values)
        inputs = [next(known) if isinstance(v, Var) else v.val for v in equation.invars]
        return _vector(equation, inputs, axis), z

    def after(*args):
        return second(*jax.tree.leaves(args))[0]

    def scale(*args):
        # The matrix of the product is linear in the parameter, up to a constant, entry by entry.
        values = jax.tree.leaves(args)
        of_leaf = lambda leaf: before(*values[:index], leaf, *values[index + 1 :])[0]
        tangent = jax.jvp(of_leaf, (values[index],), (jnp.ones_like(values[index]),))[1]
        return tangent.T if swapped else tangent

    shape = matrix.aval.shape
    sizes = shape[axis], shape[1 - axis]
    return Product(1 - axis if swapped else axis, sizes, factors, after, scale if scaled else None)


class _Use(NamedTuple):
    """An equation that reads a matrix.

    Args:
        equation: the equation.
        matrix: what it reads.
        swapped: whether the axes of the parameter are swapped there.
        scaled: whether its entries are multiplied by constants there.
    """

    equation: JaxprEqn
    matrix: Any
    swapped: bool
    scaled: bool


def _uses(jaxpr: Jaxpr, var: Var, constants: set[Var], swapped: bool = False, scaled: bool = False) -> Iterator[_Use]:
    """The equations that read a matrix, or a result of it with the same shape or a transposed one."""

    def is_constant(v):
        return not isinstance(v, Var) or v in constants

    for equation in jaxpr.eqns:
        name, ways = equation.primitive.name, (swapped, scaled)
        others = [v for v in equation.invars if v is not var]
        for _ in range(len(equation.invars) - len(others)):
            if name in ("convert_element_type", "copy"):
                yield from _uses(jaxpr, equation.outvars[0], constants, *ways)
            elif name == "transpose":
                yield from _uses(jaxpr, equation.outvars[0], constants, not swapped, scaled)
            elif name in ("mul", "select_n") and others and all(map(is_constant, others)):
                yield from _uses(jaxpr, equation.outvars[0], constants, swapped, True)
            else:
                yield _Use(equation, var, *ways)


def _constants(jaxpr: Jaxpr) -> set[Var]:
    """The variables that depend on no input."""
    varying = set(jaxpr.invars)
    constants = set(jaxpr.constvars)
    for equation in jaxpr.eqns:
        same = varying.isdisjoint(v for v in equation.invars if isinstance(v, Var))
        (constants if same else varying).update(equation.outvars)
    return constants


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
        if len(picked) == 1 and equation.outvars[0].aval.shape == (shape[1 - picked[0]],):
            return picked[0]
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


def factors(found: list[Entry], trajectory: Any, at: tuple) -> tuple[Any, list]:
    """The derivatives of the state after a step. No array of the size S · n · m is formed.

    Args:
        found: what `entries` has returned.
        trajectory: the steps.
        at: (s, others, x) of the step.

    Returns:
        J by the state before it, [S, S]; and for each parameter (a [n], D [S, m]) of a product, I [S, size] of a
        vector, () of an unused one.
    """
    (s, others, x), params, after = at, trajectory.params, trajectory.after
    leaves, treedef = jax.tree.flatten(params)

    def slopes(function, value):
        """The derivatives by all entries of an array, [S, size]."""
        units = jnp.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
        slope = lambda tangent: jax.jvp(function, (value,), (tangent,))[1]
        return mapped(slope, (0,), value.size, trajectory.one_by_one)(units).T

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

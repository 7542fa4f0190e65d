"""How parameters enter a step: a weight matrix through one product with a vector, or in another way.

A matrix that enters the step through one product alone, z = a W or z = W a, changes the new state s by

    ∂s/∂W = a ⊗ D,   D = ∂s/∂z

So the influence of n · m weights is known from n + S · m numbers. A row of W that is selected by an id is the product
of W with a vector which is 1 there and else 0.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Var

from seqjax import Error
from seqjax.gradients import depends_on, leaf_names, mapped, ravel_float, split_step

CALLS = ("jit", "checkpoint", "remat2", "closed_call")
"""The primitives that call a jaxpr whose inputs are theirs."""


class Product(NamedTuple):
    """A matrix that is multiplied by one vector.

    Args:
        axis: that of the matrix which is summed over: 0 in a W, 1 in W a.
    """

    axis: int


Entry = Product | Literal["whole", "unused"]
"""How a parameter enters a step: through a product; as a vector or a scalar; or without changing the state."""


def entries(strategy: Any, problem: Any, params: Any, start: Callable, state: Any, x: Any) -> list[Entry]:
    """For each leaf of the parameters, how it enters the step.

    Args:
        strategy: whose name an error has.
        problem: gives the step.
        params: the parameters.
        start: params -> the state in which a sequence starts.
        state: the state of one sequence.
        x: what a step reads.

    Raises:
        Error: an array of two or more axes enters the step in another way than through one product with a vector.
    """
    advance, _ = split_step(problem.advance, params, state, x)

    def after(params):
        return ravel_float(advance(params, state, x)[0])[0]

    jaxpr = jax.make_jaxpr(after)(params).jaxpr
    of_step, of_start = depends_on(after, params), depends_on(lambda params: ravel_float(start(params))[0], params)
    found: list[Entry] = []
    for (name, leaf), var, steps, starts in zip(
        leaf_names(params, "params"), jaxpr.invars, of_step, of_start, strict=True
    ):
        if not steps and not starts:
            found.append("unused")
        elif leaf.ndim < 2:
            found.append("whole")
        else:
            axis = _summed_axis(leaf.shape, list(_uses(jaxpr, var, False))) if not starts else None
            if axis is None:
                raise Error(
                    f"{strategy!r}: the parameter {name} of shape {leaf.shape} must change the state through one "
                    f"product of the step alone, x @ {name} or {name} @ x with a vector x; use uoro or rtrl, which "
                    "take any step"
                )
            found.append(Product(axis))
    return found


def _uses(jaxpr: Jaxpr, var: Var, swapped: bool) -> Iterator[tuple[JaxprEqn, bool]]:
    """The equations that read a matrix, and whether its axes are swapped there."""
    for equation in jaxpr.eqns:
        for position, read in enumerate(equation.invars):
            if read is not var:
                continue
            name = equation.primitive.name
            if name in CALLS:
                inner = equation.params["jaxpr"]
                inner = getattr(inner, "jaxpr", inner)
                yield from _uses(inner, inner.invars[position], swapped)
            elif name in ("convert_element_type", "copy"):
                yield from _uses(jaxpr, equation.outvars[0], swapped)
            elif name == "transpose" and equation.params["permutation"] == (1, 0):
                yield from _uses(jaxpr, equation.outvars[0], not swapped)
            else:
                yield equation, swapped


def _summed_axis(shape, uses):
    """The axis of a matrix that its only use sums over; None: there is another use than one product with a vector."""
    if len(shape) != 2 or len(uses) != 1:
        return None
    equation, swapped = uses[0]
    name, axis = equation.primitive.name, None
    if name == "dot_general":
        contracted, batched = equation.params["dimension_numbers"]
        ndims = [v.aval.ndim for v in equation.invars]
        if sorted(ndims) == [1, 2] and not any(batched) and all(len(axes) == 1 for axes in contracted):
            axis = contracted[ndims.index(2)][0]
    elif name in ("dynamic_slice", "slice"):  # one row or column
        sizes, whole = equation.outvars[0].aval.shape, shape[::-1] if swapped else shape
        axis = {(1, whole[1]): 0, (whole[0], 1): 1}.get(sizes)
    elif name == "gather":
        picked = equation.params["dimension_numbers"].collapsed_slice_dims
        axis = picked[0] if len(picked) == 1 and equation.outvars[0].aval.ndim == 1 else None
    return None if axis is None else 1 - axis if swapped else axis


class Factors(NamedTuple):
    """The derivatives of the state after a step.

    Args:
        J: by the state before it, float[S, S].
        leaves: by each parameter: (a [n], D [S, m]) of a product, with 1 as the largest entry of a by its absolute
            value; I [S, size] of a vector; () of an unused one.
    """

    J: Any
    leaves: list


def factors(found: list[Entry], after: Any, leaves: list, s: Any, one_by_one: bool) -> Factors:
    """The derivatives of a step. No array of the size S · n · m is formed.

    Args:
        found: what `entries` has returned.
        after: (leaves of the parameters, s) -> the float vector of the state after the step, [S].
        leaves: the leaves of the parameters.
        s: the float vector of the state before the step.
        one_by_one: whether the step sees `vmap`.
    """
    new, pull = jax.vjp(lambda leaves: after(leaves, s), leaves)
    # The pull-back of one cotangent c to W is a ⊗ (c D), from which a follows. For a random c, c D is not zero.
    rows = pull(jax.random.normal(jax.random.key(0), new.shape, new.dtype))[0]

    def slopes(at, unit_tangents, count):
        """The derivatives in some directions of one argument, [S, count]."""

        def slope(tangent):
            return jax.jvp(at[0], (at[1],), (tangent,))[1]

        return mapped(slope, (0,), count, one_by_one)(unit_tangents).T

    J = slopes((lambda s: after(leaves, s), s), jnp.eye(s.size, dtype=s.dtype), s.size)
    made: list[Any] = []
    for index, (entry, leaf) in enumerate(zip(found, leaves, strict=True)):

        def of_leaf(leaf, index=index):
            return after([*leaves[:index], leaf, *leaves[index + 1 :]], s)

        if entry == "unused":
            made.append(())
        elif entry == "whole":
            units = jnp.eye(leaf.size, dtype=leaf.dtype).reshape(leaf.size, *leaf.shape)
            made.append(slopes((of_leaf, leaf), units, leaf.size))
        else:
            G = jnp.moveaxis(rows[index], entry.axis, 0)  # [n, m]
            a = G[:, jnp.argmax(jnp.sum(G * G, 0))]
            # a ⊗ D is what it is for any scale of a; this one also fixes the sign.
            largest = a[jnp.argmax(jnp.abs(a))]
            a = a / jnp.where(largest != 0, largest, 1)
            # Along a ⊗ e_j the state changes by |a|² times column j of D.
            size = jnp.sum(a * a)
            along = a / jnp.where(size > 0, size, 1)
            units = along[:, None, None] * jnp.eye(G.shape[1], dtype=leaf.dtype)  # [n, m, m]
            units = jnp.moveaxis(units, 2, 0)  # [m, n, m]
            made.append((a, slopes((of_leaf, leaf), jnp.moveaxis(units, 1, 1 + entry.axis), G.shape[1])))
    return Factors(J, made)

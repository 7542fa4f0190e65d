"""One step of a cell with its reverse pass, which keeps few numbers of each step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal
from jax.extend.core.primitives import jit_p, remat_p

from seqjax.gradients.steps.jaxprs import evaluate, evaluate_fixed

EXPENSIVE = {
    *("tanh", "exp", "exp2", "expm1", "logistic", "log", "log1p", "erf", "erfc", "erf_inv", "pow", "cbrt", "atan2"),
    *("sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "dot_general", "sort"),
}
"""Primitives whose results are kept for the reverse pass, which computes everything else again."""


def _keeps(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in EXPENSIVE


def _keeps_blocks(primitive: Any, *_: Any, **__: Any) -> bool:
    return primitive.name in EXPENSIVE or primitive.name == "split"


POLICIES = (_keeps, _keeps_blocks, jax.checkpoint_policies.everything_saveable)
"""Which results are kept; of policies that keep as many bytes, the first one is used."""


class Source(NamedTuple):
    """Where the reverse pass of a step finds one of its residuals.

    Args:
        place: `fixed`, an array that all steps share; `old` or `new`, a field of the state before or after the step;
            `kept`, an array that is kept for this purpose.
        at: the index there.
    """

    place: str
    at: int


class Layout:
    """The residuals of a step: where each is found, and the structure of the vjp that they belong to.

    Args:
        sources: a `Source` for each leaf of the vjp.
        vjp: the structure of the vjp.
    """

    # Not a tuple: JAX compares layouts as parts of tree structures, and a layout is equal to itself alone, because the
    # structures of two vjps are never equal.
    def __init__(self, sources: list[Source], vjp: Any) -> None:
        self.sources, self.vjp = sources, vjp

    def fields(self, *places: str) -> list[int]:
        """The fields of the state that are residuals in one of these places."""
        return sorted({source.at for source in self.sources if source.place in places})

    def pull_back(self, found: dict[str, Any], dnew: Any) -> Any:
        """The cotangents of u, v, the old state and the cell's own parameters.

        Args:
            found: for each place, the arrays at the indices of the sources.
            dnew: the cotangent of the new state.
        """
        leaves = [found[source.place][source.at] for source in self.sources]
        closed, shapes = jax.make_jaxpr(jax.tree.unflatten(self.vjp, leaves), return_shape=True)(dnew)
        # Inlined, so that the cotangents of u and v are one array if the cell reads their sum alone.
        results = evaluate(closed, jax.tree.leaves(dnew), inlined=(jit_p, remat_p))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)


class CellStep(NamedTuple):
    """One step of a cell.

    Args:
        run: (u, v, old state) -> the new state, and a list of the arrays to be kept.
        kept: the shapes and dtypes of these arrays.
        fixed: the residuals that are the same at all steps.
        layout: where the reverse pass finds its residuals.
        size: the bytes that a step stacks: h, and what is in the places `old`, `new` and `kept`.
    """

    run: Callable
    kept: list[Any]
    fixed: list[Any]
    layout: Layout
    size: int


def cell_step(cell: Callable, u: Any, v: Any, old: Any, own: Any) -> CellStep:
    """The step of a cell, with the one of three policies by which the fewest bytes are kept.

    The results of `EXPENSIVE` primitives are kept, and the reverse pass computes everything else again. The blocks of a
    split are kept instead of its operand where that takes fewer bytes: a GRU needs one of the three blocks of v. Or all
    that the derivatives read is kept: of a relu, one bool of each unit.

    Args:
        cell: (u, v, old state, own parameters) -> the new state. It is traced several times.
        u: its shape and dtype.
        v: its shape and dtype.
        old: those of the fields of the state.
        own: the parameters of the cell.
    """
    return min((_with_policy(cell, policy, u, v, old, own) for policy in POLICIES), key=lambda step: step.size)


def _with_policy(cell: Callable, policy: Callable, u: Any, v: Any, old: Any, own: Any) -> CellStep:
    structures: list[Any] = []

    def forward(u, v, old):
        # `prevent_cse` would put barriers around the step, which a scan does not need.
        new, vjp = jax.vjp(jax.checkpoint(cell, policy=policy, prevent_cse=False), u, v, old, own)
        residuals, structure = jax.tree.flatten(vjp)
        structures.append(structure)
        return new, residuals

    closed, (new, residuals) = jax.make_jaxpr(forward, return_shape=True)(u, v, old)
    # `own` and the constants are no inputs of this jaxpr.
    values, rest = evaluate_fixed(closed)
    outputs = closed.jaxpr.outvars
    num_fields = len(outputs) - len(residuals)
    of_old = {variable: i for i, variable in enumerate(closed.jaxpr.invars[2:])}
    of_new = {variable: i for i, variable in enumerate(outputs[:num_fields]) if not isinstance(variable, Literal)}
    sources: list[Source] = []
    fixed: list[Any] = []
    kept: list[int] = []
    for i, variable in enumerate(outputs[num_fields:], num_fields):
        if values[i] is not None:
            sources.append(Source("fixed", len(fixed)))
            fixed.append(values[i])
        elif variable in of_old:
            sources.append(Source("old", of_old[variable]))
        elif variable in of_new:
            sources.append(Source("new", of_new[variable]))
        else:
            sources.append(Source("kept", len(kept)))
            kept.append(i)
    layout = Layout(sources, structures[-1])
    shapes = [*jax.tree.leaves(new), *residuals]
    # h is the output of the step, and is stacked in any case.
    fields = {old._fields.index("h"), *layout.fields("old", "new")}
    size = sum(shapes[i].size * shapes[i].dtype.itemsize for i in (*fields, *kept))

    def run(u, v, old):
        varying = iter(rest(u, v, *jax.tree.leaves(old)))
        found = [next(varying) if value is None else value for value in values]
        return jax.tree.unflatten(jax.tree.structure(new), found[:num_fields]), [found[i] for i in kept]

    return CellStep(run, [shapes[i] for i in kept], fixed, layout, size)

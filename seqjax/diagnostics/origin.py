"""Which operation, or which argument, makes a result of a function that is not finite."""

import itertools
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from seqjax.diagnostics.trail import Trail, follow, has_nan, is_finite, recorded

_INSTALLED = sysconfig.get_path("purelib")
_JAX = str(Path(jax.__file__).parent)
_OURS = tuple(str(Path(__file__).parents[1] / name) for name in ("diagnostics", "gradients"))
"""Folders of installed packages, of JAX, and of the code here that calls the steps."""


class Origin(NamedTuple):
    """Where a result that is not finite comes from.

    Args:
        result: the number of the result.
        argument: the number of the leaf of the arguments that is not finite itself; None: the arguments are finite.
        entry: the index of the first entry of the result, or of the leaf, that is not finite.
        operation: the JAX operation that gives a number that is not finite from finite ones; empty: an argument.
        line: the line of the program that calls it, such as "model.py:12"; empty: it is unknown.
    """

    result: int
    argument: int | None
    entry: tuple[int, ...] = ()
    operation: str = ""
    line: str = ""


def find_origin(f: Callable, bad: Sequence[int] | np.ndarray, *args: Any) -> Origin | None:
    """Follows the first result that is not finite back along values that are not finite, also into control flow.

    The function is computed operation by operation. An infinite constant, such as a bound or a mask, is often harmless:
    if a NaN was made from it, the operation that made the NaN is named.

    Args:
        f: a function that returns a list of arrays.
        bad: the numbers of the results that may be named.
        args: its arguments.

    Returns:
        None if all these results are finite. A compiled program may have given infinite ones all the same: a number
        near the largest float depends on the order of the operations.
    """
    # A new function for each call, because JAX keeps traces by the function object.
    closed = jax.make_jaxpr(lambda *args: f(*args))(*args)
    leaves = [jnp.asarray(a) for a in jax.tree.leaves(args)]
    results, made = recorded(closed, leaves)
    again = [number for number in bad if not is_finite(results[number])]
    if not again:
        return None

    def order(number):
        """When a result was made; an argument that is returned as it is comes first."""
        how = made.get(id(results[number]))
        return -1 if how is None else how.order

    number = min(again, key=order)
    trail = follow(results[number], made, leaves)
    if trail.argument is not None:
        return Origin(number, trail.argument, _first_entry(leaves[trail.argument]))
    return Origin(number, None, _first_entry(results[number]), *_culprit(trail))


def _culprit(trail: Trail) -> tuple[str, str]:
    """The operation at the end of a trail that does not lead to an argument, and its line."""
    if trail.maker is not None:
        return _operation(trail.maker)
    # The trail ends at a constant. One that is infinite does no harm by itself: what made a NaN from it does.
    if trail.first_nan is not None and not has_nan(trail.at):
        return _operation(trail.first_nan)
    return "a constant of the step", "" if trail.equation is None else _line(trail.equation)


def _first_entry(value: Any) -> tuple[int, ...]:
    """The index of the first NaN, or else of the first infinite number."""
    bad = jnp.isnan(value) if has_nan(value) else ~jnp.isfinite(value)
    return tuple(map(int, np.argwhere(np.asarray(bad))[0]))


def _operation(equation: JaxprEqn) -> tuple[str, str]:
    return str(equation.params.get("name") or equation.primitive.name), _line(equation)


def _line(equation: JaxprEqn) -> str:
    """The innermost line of a step that calls an operation, outside of installed packages if there is one."""
    traceback = equation.source_info.traceback
    # From the innermost to the outermost; the step is called in this package.
    all_frames: Any = traceback.frames if traceback else ()
    inner = itertools.takewhile(lambda frame: not frame.file_name.startswith(_OURS), all_frames)
    frames = [frame for frame in inner if not frame.file_name.startswith(_JAX)]
    own = [frame for frame in frames if not frame.file_name.startswith(_INSTALLED)] or frames
    return f"{Path(own[0].file_name).name}:{own[0].line_num}" if own else ""

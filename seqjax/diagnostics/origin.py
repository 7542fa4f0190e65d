"""Which operation, or which argument, makes a result of a function that is not finite."""

import itertools
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from seqjax.gradients.jaxprs import evaluate

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


class _Made(NamedTuple):
    """How an array was made. `outputs` keeps the arrays alive, so that no other one takes their `id`."""

    order: int
    equation: JaxprEqn
    inputs: list
    outputs: list


def find_origin(f: Callable, bad: Sequence[int] | np.ndarray, *args: Any) -> Origin | None:
    """Follows the first result that is not finite back along values that are not finite.

    The function is computed operation by operation. An infinite constant of it, such as a bound or a mask, may come to
    nothing: if a NaN was made from it, the operation that made the NaN is named.

    Args:
        f: a function that returns a list of arrays.
        bad: the numbers of the results that may be named.
        args: its arguments.

    Returns:
        None if all these results are finite. They may be so although a compiled program has given others: a number near
        the largest float depends on the order of the operations.
    """
    # A new function for each call, because JAX keeps traces by the function object.
    closed = jax.make_jaxpr(lambda *args: f(*args))(*args)
    leaves = [jnp.asarray(a) for a in jax.tree.leaves(args)]
    made: dict[int, _Made] = {}

    def seen(equation, inputs, outputs):
        for value in outputs:
            if not any(value is a for a in inputs):
                made.setdefault(id(value), _Made(len(made), equation, inputs, outputs))

    results = evaluate(closed, leaves, seen)
    again = [number for number in bad if not _is_finite(results[number])]
    if not again:
        return None
    number = min(again, key=lambda number: made[id(results[number])].order if id(results[number]) in made else -1)

    result, entry = results[number], _first_entry(results[number])
    at, last, first_nan = result, None, None
    while id(at) in made:
        last = made[id(at)]
        before = [
            a
            for v, a in zip(last.equation.invars, last.inputs, strict=True)
            if not isinstance(v, Literal) and not _is_finite(a)
        ]
        nans = [a for a in before if _has_nan(a)]
        if _has_nan(at) and not nans:
            first_nan = last
        if not before:
            return Origin(number, None, entry, *_operation(last.equation))
        at = (nans or before)[0]
    for argument, leaf in enumerate(leaves):
        if leaf is at:
            return Origin(number, argument, _first_entry(leaf))
    if first_nan is not None and not _has_nan(at):
        return Origin(number, None, entry, *_operation(first_nan.equation))
    return Origin(number, None, entry, "a constant of the step", "" if last is None else _line(last.equation))


def _first_entry(value: Any) -> tuple[int, ...]:
    """The index of the first NaN, or else of the first infinite number."""
    bad = jnp.isnan(value) if _has_nan(value) else ~jnp.isfinite(value)
    return tuple(map(int, np.argwhere(np.asarray(bad))[0]))


def _is_finite(value: Any) -> bool:
    return not jnp.issubdtype(jnp.result_type(value), jnp.inexact) or bool(jnp.isfinite(value).all())


def _has_nan(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.inexact) and bool(jnp.isnan(value).any())


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

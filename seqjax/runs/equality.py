"""`equality`: whether the results of two runs are equal to the last bit, else what differs, and where first."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqjax.array_files.arrays import by_name
from seqjax.columns import COLUMNS
from seqjax.errors import counted, dtype_shape
from seqjax.runs.run import Run

EQUAL = "equal to the bit: parameters, metrics"
TIMES = {column.name for column in COLUMNS if column.is_time}
"""The columns of the metrics that measure time, which are not compared."""


def equality(first: Run, second: Run) -> str:
    """`EQUAL`, or a line that says what differs, and where first.

    Numbers are equal if they have the same bits: NaN equals NaN, and 0.0 does not equal -0.0. The parameters are those
    of the last epoch, and those of the best epoch too if both runs keep them.
    """
    found = [
        metrics_differ(first.metrics, second.metrics),
        arrays_differ("parameters", by_name(first.params), by_name(second.params)),
    ]
    if first.kept_best is not None and second.kept_best is not None:
        best = by_name(first.kept_best), by_name(second.kept_best)
        found.append(arrays_differ("parameters of the best epoch", *best))
    different = "; ".join(text for text in found if text)
    return f"not equal: {different}" if different else EQUAL


def metrics_differ(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> str:
    """Where the metrics of two runs differ first; an empty string if they are equal."""
    for one, other in zip(first, second, strict=False):
        for name in dict.fromkeys([*one, *other]):
            a, b = one.get(name, "nothing"), other.get(name, "nothing")
            if name not in TIMES and _bits(a) != _bits(b):
                return f"metrics differ from epoch {one['epoch']} on ({name} {a} and {b})"
    if len(first) != len(second):
        return f"metrics have {counted(len(first), 'epoch')} and {counted(len(second), 'epoch')}"
    return ""


def arrays_differ(what: str, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> str:
    """How many arrays differ, and which is the first; an empty string if all are equal."""
    names = dict.fromkeys([*first, *second])
    differing = [name for name in names if _bits(first.get(name)) != _bits(second.get(name))]
    if not differing:
        return ""
    name = differing[0]
    forms = [dtype_shape(arrays[name]) if name in arrays else "nothing" for arrays in (first, second)]
    of_forms = f" ({forms[0]} and {forms[1]})" if forms[0] != forms[1] else ""
    return f"{what} differ in {len(differing)} of {counted(len(names), 'array')}, first in {name}{of_forms}"


def _bits(value: Any) -> Any:
    """What only equal values have in common: dtype, shape and bytes, of a number those as a float64."""
    if isinstance(value, int | float):
        value = np.float64(value)
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray | np.generic) else value

"""`Result`: a number or a text that was measured, beside what it should be."""

import math
import numbers
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from seqjax.errors import Error
from seqjax.report.table_cell import DIGITS, format_cell


class Result(NamedTuple):
    """A row of a report.

    Args:
        what: what was measured.
        got: a number, for several seeds their median; or a text.
        lowest, highest, n: of several seeds the lowest and the highest number, and how many there are; None: one value.
        expected: the number or the text that it should be; None: no such value is known.
        low, high: the least and the largest number that are as expected; None: there is no such bound.
        tolerance: where the bounds are this far from `expected`; None: the bounds were given.
        remark: what else a reader should know.
    """

    what: str
    got: float | str
    lowest: float | None
    highest: float | None
    n: int | None
    expected: float | str | None
    low: float | None
    high: float | None
    tolerance: float | None
    remark: str

    @property
    def met(self) -> str:
        """Whether it is as expected, "yes" or "no"; empty if nothing is expected."""
        if isinstance(self.expected, str):
            return "yes" if self.got == self.expected else "no"
        if self.low is None and self.high is None:
            return ""
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return "yes" if not isinstance(self.got, str) and low <= self.got <= high else "no"

    @property
    def shown(self) -> str:
        """The value, or the median with its range, such as `0.05380 (0.04710 to 0.06170, n = 20)`.

        One number has as many digits as the number that it should be.
        """
        if self.n is not None:
            return f"{format_cell(self.got)} ({format_cell(self.lowest)} to {format_cell(self.highest)}, n = {self.n})"
        of_expected = 0
        if self.tolerance is not None and not isinstance(self.expected, str):
            of_expected = len(Decimal(f"{self.expected:.12g}").normalize().as_tuple().digits)
        return format_cell(self.got, max(DIGITS, of_expected))

    @property
    def in_words(self) -> str:
        """What it should be, such as `0.0538 (0.0471 to 0.0617)`, `0.25 ± 0.01` or `at most 0.05`, and the remark."""
        if isinstance(self.expected, str):
            words = [self.expected]
        elif self.tolerance is not None:
            words = [_text(self.expected) + (f" ± {self.tolerance:g}" if self.tolerance else "")]
        else:
            bounds = _bounds(self.low, self.high)
            words = [bounds if self.expected is None else f"{_text(self.expected)} ({bounds})"]
        return ", ".join(filter(None, [*words, self.remark]))


def result_of(
    what: str,
    got: Any,
    expected: float | str | None,
    tolerance: float,
    low: float | None,
    high: float | None,
    remark: str,
) -> Result:
    """The result with checked arguments; see `Report.row`."""
    number = None if isinstance(expected, str) else expected
    for name, value in {"expected": number, "tolerance": tolerance, "low": low, "high": high}.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)
        if value is not None and not is_number:
            raise Error(f"row {what!r}: {name} = {value!r:.80}: pass a number")
    if tolerance < 0:
        raise Error(f"row {what!r}: tolerance = {tolerance} must be at least 0")
    if not isinstance(remark, str):
        raise Error(f"row {what!r}: remark = {remark!r:.80}: pass a text")
    has_bounds = low is not None or high is not None
    if has_bounds and (tolerance or isinstance(expected, str)):
        raise Error(f"row {what!r}: give either low and high, or a tolerance around a number that is expected")
    if tolerance and not has_bounds and (expected is None or isinstance(expected, str)):
        raise Error(f"row {what!r}: a tolerance needs a number that is expected")
    if low is not None and high is not None and low > high:
        raise Error(f"row {what!r}: no number is from low = {low} to high = {high}; give the lower end first")
    around = None
    if not has_bounds and expected is not None and not isinstance(expected, str):
        around, low, high = tolerance, expected - tolerance, expected + tolerance
    if isinstance(got, str):
        return Result(what, got, None, None, None, expected, low, high, around, remark)
    values = _values(what, got)
    if values.ndim == 0:
        return Result(what, values.item(), None, None, None, expected, low, high, around, remark)
    ends = (values.min().item(), values.max().item(), len(values))
    return Result(what, np.median(values).item(), *ends, expected, low, high, around, remark)


def _values(what: str, got: Any) -> np.ndarray:
    """A number [] or numbers [n]; integers stay integers."""
    try:
        values = np.asarray(got)
        # Numpy cannot take the median of some float types of JAX, such as bfloat16.
        values = values if values.dtype.kind in "biuOSUc" else values.astype(np.float64)
    except (TypeError, ValueError) as fault:
        raise Error(f"row {what!r}: a number, a text or a list of numbers, not {got!r:.80}") from fault
    if values.dtype.kind in "OSUc":
        raise Error(f"row {what!r}: a number, a text or a list of numbers, not {got!r:.80}")
    if values.ndim > 1 or not values.size:
        raise Error(f"row {what!r}: one number, or one for each seed, not an array of shape {list(values.shape)}")
    return values


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "" if low is high else f"at least {_text(low)}" if high is None else f"at most {_text(high)}"
    return f"{_text(low)} to {_text(high)}"


def _text(number: Any) -> str:
    """A number as a person types it: integers whole, others with up to twelve digits."""
    return f"{number:,}" if isinstance(number, int) else f"{number:.12g}"

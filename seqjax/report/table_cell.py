"""The text of a cell of a table: a value, or a mean with its interval, with some significant digits."""

import math
from collections.abc import Sequence
from typing import Any

DIGITS = 4
"""The significant digits of a number, unless others are chosen."""


def is_number(value: Any) -> bool:
    """Whether a value is shown as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_cell(value: Any, digits: int = DIGITS) -> str:
    """The text of a value: so many significant digits, commas between thousands from 10,000 on, None empty.

    Integers are whole, and numbers that are too large for their digits have no decimals.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float) or not math.isfinite(value):
        return "" if value is None else str(value)
    return _number(value, digits, _decimals(value, digits))


def format_column(cells: Sequence[Sequence[Any]], digits: int = DIGITS) -> list[list[str]]:
    """The texts of the numbers of each cell of a column.

    The mean and the two ends of an interval have the same decimals, so that they can be compared. All intervals of the
    column have the same decimals too, unless their sizes differ by more than a factor of about 100.

    Args:
        cells: each is one value, or a mean and the two ends of its interval, which may be unknown.
        digits: the significant digits of the largest number of a cell.

    Returns:
        For each cell one text, or three if the ends are known.
    """
    decimals = {n: _decimals(max(map(abs, cell)), digits) for n, cell in enumerate(cells) if _has_interval(cell)}
    known = [each for each in decimals.values() if each is not None]
    if known and len(known) == len(decimals) and max(known) - min(known) <= 2:
        decimals = dict.fromkeys(decimals, max(known))
    return [
        [_number(each, digits, decimals[n]) for each in cell] if n in decimals else [format_cell(cell[0], digits)]
        for n, cell in enumerate(cells)
    ]


def _has_interval(cell: Sequence[Any]) -> bool:
    return len(cell) > 1 and all(is_number(each) and math.isfinite(each) for each in cell)


def _decimals(value: float, digits: int) -> int | None:
    """The decimals with which a number has its significant digits; None: it is shown with an exponent."""
    if 0 < abs(value) < 1e-4 or abs(value) >= 1e9:
        return None
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - exponent)


def _number(value: float, digits: int, decimals: int | None) -> str:
    if decimals is None:
        return f"{value:.{digits - 1}e}"
    # "z" writes a negative number that is rounded to zero without its sign.
    rounded = f"{value:z.{decimals}f}"
    return rounded if abs(float(rounded)) < 10_000 else f"{value:,.{decimals}f}"

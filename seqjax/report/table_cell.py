"""The text of a cell of a table: a number with some significant digits, or a mean with its interval."""

import math
from collections.abc import Sequence
from typing import Any, Literal

DIGITS = 4
"""The significant digits of a number, unless others are chosen."""
Form = Literal["brackets", "pm"]
"""How an interval is shown: `0.422 [0.415, 0.431]`, or `0.422 ± 0.008` with half the width of the interval."""
TEXT: dict[str, str] = {"brackets": "{} [{}, {}]", "pm": "{} ± {}"}
"""How the numbers of a mean with an interval are put together."""


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


def numbers(cell: Sequence[Any], digits: int, interval: Form, decimals: int | None = None) -> list[str]:
    """The texts of the numbers of a cell, for a template such as the ones in `TEXT`.

    Args:
        cell: a value, or a mean and the two ends of its interval.
        digits: the significant digits of the largest number; the others have as many decimals as this one.
        interval: how the interval is shown.
        decimals: the decimals of the column, as `common_decimals` returns them; None: the decimals of this cell.

    Returns:
        One text if the cell has no interval; otherwise two or three.
    """
    shown = _shown(cell, interval)
    if len(shown) == 1:
        return [format_cell(cell[0], digits)]
    decimals = _decimals_of(shown, digits, interval) if decimals is None else decimals
    return [_number(number, digits, decimals) for number in shown]


def common_decimals(cells: Sequence[Sequence[Any]], digits: int, interval: Form) -> int | None:
    """The decimals with which each mean with an interval in a column has at least its significant digits.

    None: there are no such means, or their sizes differ by more than a factor of about 100, so that each cell has
    decimals of its own.
    """
    columns = [_shown(cell, interval) for cell in cells]
    each = [_decimals_of(shown, digits, interval) for shown in columns if len(shown) > 1]
    known = [decimals for decimals in each if decimals is not None]
    return max(known) if known and len(known) == len(each) and max(known) - min(known) <= 2 else None


def _decimals_of(shown: Sequence[float], digits: int, interval: Form) -> int | None:
    """The decimals with which the largest number of a cell has its significant digits.

    Half the width of an interval has one of its own at least, unless that takes more than three decimals more.
    """
    decimals = _decimals(max(map(abs, shown)), digits)
    if decimals is None or interval == "brackets" or shown[-1] <= 0:
        return decimals
    of_half = math.ceil(-math.log10(shown[-1]))
    return of_half if decimals < of_half <= decimals + 3 else decimals


def _shown(cell: Sequence[Any], interval: Form) -> list[Any]:
    """The numbers that are shown of a cell: a value, or a mean with the ends or with half the width of its interval."""
    value, *ends = cell
    if not ends or not all(is_number(number) and math.isfinite(number) for number in cell):
        return [value]
    low, high = ends
    return [value, low, high] if interval == "brackets" else [value, (high - low) / 2]


def text(cell: Sequence[Any], digits: int, interval: Form, decimals: int | None = None) -> str:
    """The text of a cell with the arguments of `numbers`."""
    first, *others = numbers(cell, digits, interval, decimals)
    return TEXT[interval].format(first, *others) if others else first


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

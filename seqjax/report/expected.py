"""What a result should be, in words that people read, and whether it is."""

import math
import re
from typing import Any

NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?"
ENDS = r"(?=\s*(?:$|[,;]))"
EXACTLY = rf"=\s*({NUMBER}){ENDS}"
BOUNDS = {
    "<=": lambda got, x: got <= x,
    ">=": lambda got, x: got >= x,
    "<": lambda got, x: got < x,
    ">": lambda got, x: got > x,
}


def is_met(got: Any, expected: str) -> bool | None:
    """Whether a result is what was expected; None where that says nothing which could be checked.

    `= 28` is met by what is 28 in the digits that are shown, `= the text` by that text; `~ .0538 (.0471 to .0617)` by
    what lies in the band, `<= 1.4`, `>= .65`, `< 0` and `> 0` by what lies there. What follows a comma or a semicolon,
    and any other text, is a remark.

    Args:
        got: a number, or a text.
        expected: such a text.
    """
    text = expected.strip()
    if isinstance(got, str):
        return got == text[1:].strip() if text.startswith("=") else None
    if match := re.match(EXACTLY, text):
        shown = in_expected_digits(got, text)
        return shown is not None and _number(shown) == _number(match[1])
    if match := re.match(rf"~[^(]*\(({NUMBER}) to ({NUMBER})", text):
        return _number(match[1]) <= got <= _number(match[2])
    if match := re.match(rf"(<=|>=|<|>)\s*({NUMBER}){ENDS}", text):
        return bool(BOUNDS[match[1]](got, _number(match[2])))
    return None


def in_expected_digits(got: float, expected: str) -> str | None:
    """A number in as many digits as it is expected in, such as "0.045904" for `= .045904`; None where it is not so.

    Args:
        got: the number.
        expected: as `is_met` takes it.
    """
    match = re.match(EXACTLY, expected.strip())
    if not match or not math.isfinite(got):
        return None
    mantissa, _, exponent = match[1].partition("e")
    return f"{got:z,.{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}}"


def _number(text: str) -> float:
    return float(text.replace(",", ""))

"""Parses JSON and TOML that anybody may have written. Whatever the text is, the only exception is a `ValueError`.

Both formats allow nesting that exhausts Python's stack where the value is used, and numbers that no array can hold.
"""

import json
import math
import re
import tomllib
from typing import Any

DEEPEST = 32
"""The largest number of tables and lists inside each other; seqjax itself writes 4."""
LARGEST = 2**63
"""The bound of whole numbers, as in TOML."""
LONGEST_TOML = 2**20
"""The largest number of characters of a TOML text; a config of seqjax has some thousands."""

_MAY_BE_LARGE = re.compile(r"\d{19}|\d[eE]\+?\d{3}")


def from_json(data: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a number that is too large or is not finite.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    value = _loads(text)
    # These tests are much faster than the check, which few texts need.
    if text.count("{") + text.count("[") > DEEPEST or _MAY_BE_LARGE.search(text):
        _check(value, infinite=False)
    return value


def objects_from_json(lines: list[bytes]) -> list[dict[str, Any]]:
    """The objects of lines of JSON. All lines are parsed at once, which is much faster than one by one.

    The depth of their values is not checked, so the caller has to check their types before it walks them.

    Raises:
        ValueError: a line is not one object, or has a number that is too large or is not finite.
    """
    text = (b"[" + b",".join(lines) + b"]").decode("utf-8")
    objects = _loads(text)
    if len(objects) != len(lines) or not all(isinstance(each, dict) for each in objects):
        raise ValueError("a line is not one object of JSON")
    if _MAY_BE_LARGE.search(text):
        _check(objects, infinite=False)
    return objects


def from_toml(text: str) -> dict[str, Any]:
    """The nested dict of a TOML text.

    Raises:
        ValueError: it is not TOML, is longer than `LONGEST_TOML`, is nested too deeply, or has a number that is too
            large.
    """
    if len(text) > LONGEST_TOML:
        raise ValueError(f"it has {len(text):,} characters, more than {LONGEST_TOML:,}")
    # `tomllib` takes a time that is quadratic in the number of parts of a key.
    if _DEEP_KEY.search(_QUOTED_OR_COMMENT.sub("", text)):
        raise ValueError(_TOO_DEEP)
    try:
        table = tomllib.loads(text)
    except RecursionError as fault:
        raise ValueError(_TOO_DEEP) from fault
    _check(table, infinite=True)
    return table


_QUOTED_OR_COMMENT = re.compile(
    "|".join(
        [
            r""""{3}(?:\\.|[^\\])*?(?:"{3,5}|\Z)""",
            r"""'{3}.*?(?:'{3,5}|\Z)""",
            r""""(?:\\.|[^"\\\n])*+"?""",
            r"""'[^'\n]*+'?""",
            r"#[^\n]*+",
        ]
    ),
    re.DOTALL,
)
"""The texts, quoted keys and comments of TOML. An unterminated one matches at least up to the place where
`tomllib` fails."""
_DEEP_KEY = re.compile(rf"(?:\.[^.=,\[\]{{}}\n]*+){{{DEEPEST}}}")
"""A key of more than `DEEPEST` parts, in a text without quoted parts: nothing else of TOML has as many dots."""
_TOO_DEEP = f"more than {DEEPEST} tables or lists are nested in each other"


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as fault:
        raise ValueError(_TOO_DEEP) from fault


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _check(value: Any, infinite: bool) -> None:
    """Checks depth and numbers, without recursion; `infinite`: whether the format has a word for infinity."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST + 1:  # the innermost level has the values of the deepest table
            raise ValueError(_TOO_DEEP)
        for number in level:
            if isinstance(number, int) and not -LARGEST <= number < LARGEST:
                raise ValueError("a whole number has more than 64 bits")
            if isinstance(number, float) and math.isinf(number) and not infinite:
                raise ValueError("a number is too large for a float")
        tables = [entry for entry in level if isinstance(entry, dict | list)]
        level = [each for entry in tables for each in (entry.values() if isinstance(entry, dict) else entry)]

"""Cases of a test that the long suite alone runs."""

from typing import Any

import pytest


def slow(*cases: Any) -> list[Any]:
    """These cases for `pytest.mark.parametrize`: values, or tuples with one value for each parameter."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]

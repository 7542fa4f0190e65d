"""A few cases of each module of `make faults`."""

import sys

import pytest

from faults import crash, errors, escapes, flips, fuzz, signals
from faults.children import in_new_process
from faults.part import Part

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def few_signals(quick: bool) -> list[Part]:
    return in_new_process(signals.quick_parts)


@pytest.mark.parametrize(
    "parts",
    [
        *(crash.parts, errors.parts, flips.parts),
        *(pytest.param(parts, marks=pytest.mark.slow) for parts in (escapes.parts, few_signals, fuzz.parts)),
    ],
)
def test_what_is_promised_holds_in_a_few_cases(parts):
    found = list(parts(True))
    assert [problem for part in found for problem in part.problems] == []
    assert all(part.tried == part.held > 0 for part in found)

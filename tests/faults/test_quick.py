"""A few cases of each module of `make faults`."""

import sys

import pytest

from faults import crash, errors, escapes, flips, fuzz, signals
from faults.children import in_new_process
from faults.part import Part, part

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def few_escapes(quick: bool) -> list[Part]:
    names = [name for name, place in escapes.PLACES.items() if not place.is_slow]
    return [part("escapes", in_new_process(escapes.problems, names[::6]))]


def few_signals(quick: bool) -> list[Part]:
    return [part("signals", in_new_process(signals.problems, signals.QUICK))]


@pytest.mark.parametrize(
    "parts",
    [
        *(crash.parts, errors.parts, flips.parts, few_escapes),
        *(pytest.param(parts, marks=pytest.mark.slow) for parts in (escapes.parts, few_signals, fuzz.parts)),
    ],
)
def test_what_is_promised_holds_in_a_few_cases(parts):
    found = list(parts(True))
    assert [problem for part in found for problem in part.problems] == []
    assert all(part.tried == part.held > 0 for part in found)

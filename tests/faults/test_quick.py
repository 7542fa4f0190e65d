"""The quick part of `make faults`, in this process: a few cases of each module."""

import sys

import pytest

from faults import crash, errors, flips

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("module", [crash, errors, flips])
def test_what_is_promised_holds_in_a_few_cases(module):
    parts = list(module.parts(quick=True))
    assert [problem for part in parts for problem in part.problems] == []
    assert all(part.tried == part.held > 0 for part in parts)

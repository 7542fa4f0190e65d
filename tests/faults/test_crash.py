"""Some kinds of run, killed and cut off from power at all of their calls; `make faults` does it with all kinds."""

import sys

import pytest

from faults import crash
from faults.kinds import BY_NAME

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("optimized"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture
def place(tmp_path):
    """A folder that does not exist."""
    return tmp_path / "place"


@pytest.mark.parametrize("name", ["lstm, dropout, truncated, adam", "more epochs"])
def test_a_run_that_is_killed_at_any_call_ends_with_the_same_bits(place, name):
    parts = crash.states_of(BY_NAME[name], place, most_cuts=30)
    assert [problem for part in parts for problem in part.problems] == []
    assert sum(part.tried for part in parts) > 120

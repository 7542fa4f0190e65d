"""The fields of the launcher slurm. tests/slurm runs it in a Slurm."""

import pytest

from seqjax import Error
from seqjax_launchers import Slurm


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1", 60), ("2", 120), ("0:30", 30), ("1:59", 119), ("0:0:7", 7), ("0:1:40", 100),
        ("0-0:1", 60), ("0-0:1:40", 100),
    ],
)  # fmt: skip
def test_a_limit_within_the_notice_is_refused(time, seconds):
    with pytest.raises(Error, match=f"time = {time} is {seconds} seconds, and notice = 120: each run would be"):
        Slurm(time=time)


@pytest.mark.parametrize("time", [None, "3", "2:01", "0:2:01", "0-1", "1-0", "0", "0-0:3", "UNLIMITED", "soon"])
def test_other_limits_are_left_to_slurm(time):
    assert Slurm(time=time).time == time

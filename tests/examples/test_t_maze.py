"""The agent in the T-maze remembers the sign with the gradient of the episode, and not with that of one step."""

import re
import sys
from pathlib import Path

import pytest
from support.shell import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "t_maze.py"


@pytest.mark.slow
def test_what_is_carried_decides_whether_the_agent_remembers():
    done = run([sys.executable, EXAMPLE])
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"^(\S+) +seed \d  +\d+ turns  correct: (\d+)% of the first 200, (\d+)% of the last$", done.stdout, re.M
    )
    assert [name for name, *_ in found] == ["rtrl"] * 3 + ["truncated(1)"] * 3
    assert all(int(first) < 65 for _, first, _ in found), "at first the agent guesses"
    last = [int(last) for *_, last in found]
    assert min(last[:3]) >= 95
    assert max(last[3:]) <= 80

"""The commands of docs/accelerators.md print what the page shows: `make accelerators`."""

import re
from pathlib import Path

import pytest
from support.shell import call

from seqjax.accelerators import target
from seqjax.errors import Error

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "accelerators.md").read_text("utf-8")
SHOWN = re.findall(r"^\$ seqjax (run .* --target .*)\n((?:(?!\$|```).*\n)+)", PAGE, re.M)


def test_the_page_has_such_commands():
    assert len(SHOWN) == 3


@pytest.mark.parametrize(("command", "lines"), SHOWN)
def test_a_command_prints_what_the_page_shows(command, lines):
    try:
        target(command.rpartition("--target ")[2])
    except Error as missing:
        if "not installed" not in str(missing):
            raise
        pytest.skip(str(missing))
    done = call(*command.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(lines)
    assert "Traceback" not in done.stderr

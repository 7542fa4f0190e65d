"""The board of `seqjax reproduce`: a line for each event, and on a terminal the scripts that run."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from seqjax.report.board import Board

A, B = Path("experiments/a.py"), Path("experiments/b.py")


def test_the_live_line_has_the_time_of_each_script_that_runs():
    now = [100.0]
    board = Board(3, clock=lambda: now[0])
    assert board.line() == "running  none · 0 of 3 done"
    board.start(A, Path("a.txt"))
    now[0] += 65
    board.start(B, Path("b.txt"))
    now[0] += 3723.9
    assert board.line() == "running  a 63:08, b 62:03 · 0 of 3 done"
    board.end(A, "a")
    board.end(Path("earlier.py"), "done before")
    assert board.line() == "running  b 62:03 · 2 of 3 done"


def test_without_a_terminal_there_is_one_plain_line_for_each_event(capsys):
    with Board(2) as board:
        board.start(A, Path("a\x1b.txt"))
        board.end(A, "well")
        board.end(B, "badly", failed=True)
    assert capsys.readouterr().out.splitlines() == [
        r"runs     experiments/a.py (prints into a\x1b.txt)",
        "done     [1/2] well",
        "failed   [2/2] badly",
    ]


def test_on_a_terminal_the_live_line_is_shown_and_goes_away():
    code = (
        "from pathlib import Path; from seqjax.report.board import Board\n"
        "with Board(2) as board:\n"
        "    board.start(Path('a.py'), Path('log')); board.live.refresh(); board.end(Path('a.py'), 'well')\n"
    )
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=other_end,
        stdout=other_end,
    )
    os.close(other_end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # the end of a terminal on Linux
        pass
    os.close(terminal)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "running  a 0:00 · 0 of 2 done" in text
    assert text.rstrip().splitlines()[-1] == "done     [1/2] well" or "running  none · 1 of 2 done" in text

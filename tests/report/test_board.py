"""The board of `seqjax reproduce`: a line for each event, and on a terminal the scripts that run."""

import io
import re
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


class Terminal(io.StringIO):
    isatty = lambda self: True


def test_on_a_terminal_the_live_line_is_shown_and_goes_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    with Board(2) as board:
        hidden, shown = (sys.stdout.getvalue().rfind(f"\x1b[?25{end}") for end in "lh")
        assert shown > hidden, "the cursor of a process that is killed would stay hidden"
        board.start(Path("a.py"), Path("a\x1b.txt"))
        board.live.refresh()
        board.end(Path("a.py"), "well")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sys.stdout.getvalue())
    assert r"runs     a.py (prints into a\x1b.txt)" in text
    assert "running  a 0:00 · 0 of 2 done" in text
    assert "done     [1/2] well" in text

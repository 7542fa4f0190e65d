"""The output of a notebook's cell during training. A real kernel shows it in tests/test_notebooks.py."""

import io
import math
import pty
import sys

import pytest

from seqjax.terminal import live
from seqjax.terminal.live import CellOutput, open_output, shows_progress
from seqjax.terminal.stream import EscapedStream


@pytest.fixture
def shown(monkeypatch):
    """The texts that IPython is asked to show: the first as an output, the others in its place."""
    found = []

    class Handle:
        def update(self, data, raw):
            found.append(data["text/plain"])

    def display(data, raw, display_id):
        assert found == [], "a second output"
        found.append(data["text/plain"])
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    return found


def test_lines_stay_and_the_live_line_below_them_is_replaced(shown, monkeypatch):
    monkeypatch.setattr(live, "EVERY", 0.0)
    cell = CellOutput("compiling", show=True)
    cell.print("device")
    cell.start(refresh=True)
    cell.print("[bold]epoch 1")
    cell.update("epoch 2", refresh=cell.is_started)
    cell.update("epoch 3", refresh=cell.is_started)
    cell.stop()
    lines = "device\n[bold]epoch 1"
    below = [f"{lines}\n{live_line}" for live_line in ("compiling", "epoch 2", "epoch 3")]
    assert shown == ["device", "device\ncompiling", *below, lines]


def test_fast_changes_are_left_out_and_the_next_line_shows_the_last_of_them(shown, monkeypatch):
    monkeypatch.setattr(live, "EVERY", math.inf)
    cell = CellOutput("compiling", show=True)
    cell.start()
    for epoch in range(1000):
        cell.update(f"epoch {epoch}", refresh=True)
    assert shown == ["compiling"]
    cell.print("line")
    assert shown == ["compiling", "line\nepoch 999"]


def test_what_is_asked_for_is_shown_without_control_characters(shown):
    for show in (False, True):
        cell = CellOutput("compiling", show)
        cell.stop()
        cell.print("a\x1b[8m\n\tb")
        cell.update("c\u202e", refresh=True)
        assert len(shown) == show
        cell.start()
    assert shown == ["a\\x1b[8m\n\tb", "a\\x1b[8m\n\tb\nc\\u202e"]


def test_outside_of_a_notebook_rich_prints(capsys):
    console, live_line = open_output("compiling", show=True)
    console.print("device")
    assert not live_line.is_started
    assert capsys.readouterr().out == "device\n"


def test_progress_is_shown_on_a_terminal_without_a_live_line_or_as_asked(monkeypatch, tmp_path):
    def check(stream, by_default):
        monkeypatch.setattr(sys, "stdout", stream)
        assert [shows_progress(asked) for asked in (None, True, False)] == [by_default, True, False]

    monkeypatch.setenv("FORCE_COLOR", "1")  # as on machines of GitHub
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    with open(master, "rb"), open(slave, "w") as terminal, (tmp_path / "log").open("w") as file:
        for stream in (file, io.StringIO(), None):
            check(stream, False)
        check(EscapedStream(terminal), True)
        check(terminal, True)
        live_line = open_output("a run", show=True)[1]
        live_line.start()
        check(sys.stdout, False)
        live_line.stop()
        check(sys.stdout, True)

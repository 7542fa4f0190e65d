"""Lines above a live line, on a terminal and elsewhere."""

import sys

from rich.text import Text

from seqjax.terminal.console import Console, Live
from seqjax.terminal.stream import EscapedStream


def test_markup_and_control_characters_are_plain_text(capsys):
    Console().print("[bold]a\x1b[31m\nb", Text("c\x9b"))
    Console(show=False).print("nothing is printed unless it is asked for")
    assert capsys.readouterr().out == "[bold]a\\x1b[31m\nb c\\x9b\n"


def test_the_console_moves_the_cursor_where_streams_are_escaped(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", EscapedStream(sys.stdout))
    console = Console()
    console.show_cursor(False)
    assert not isinstance(console.file, EscapedStream)


def test_the_live_line_is_plain_text():
    live = Live("[bold]a\x1b", Console())
    assert str(live.get_renderable()) == "[bold]a\\x1b"
    live.update("[red]b\u202e")
    assert str(live.get_renderable()) == "[red]b\\u202e"
    given = Live("", Console(), get_renderable=lambda: "[x]\x07")
    assert str(given.get_renderable()) == "[x]\\x07"

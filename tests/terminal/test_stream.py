"""What leaves for the terminal by stdout and stderr."""

import io
import subprocess
import sys
import unicodedata

import pytest

from seqjax.errors import LINES, Error, escape
from seqjax.terminal.stream import EscapedStream, escape_streams, line, say, unescaped


def harmless(character):
    """By the categories of Unicode: a space, a joiner, or not control, format, surrogate, private or unassigned."""
    is_joiner = character in "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
    return is_joiner or unicodedata.category(character) == "Zs" or unicodedata.category(character)[0] not in "CZ"


@pytest.mark.parametrize("step", [101, pytest.param(1, marks=pytest.mark.slow)])
def test_every_character_of_unicode_is_either_harmless_or_escaped(step):
    characters = [chr(number) for number in (*range(0x3100), *range(0x3100, sys.maxunicode, step))]
    pieces = escape(" ; ".join(characters)).split(" ; ")
    for character, piece in zip(characters, pieces, strict=True):
        if harmless(character):
            assert piece == character
        else:
            assert piece.startswith("\\")
            assert piece.encode("ascii").decode("unicode_escape") == character


@pytest.mark.parametrize("character", "\x00\r\x1b\x9b\u202e")
@pytest.mark.parametrize("write", [EscapedStream.write, lambda stream, text: stream.writelines([text])])
def test_a_stream_keeps_lines_and_tabs_alone(character, write):
    text = io.StringIO()
    stream = EscapedStream(text)
    write(stream, f"a\n\tb{character}\n")
    assert text.getvalue() == f"a\n\tb{escape(character)}\n"
    assert not stream.isatty()
    assert stream.getvalue() == text.getvalue()
    assert unescaped(stream) is unescaped(text) is text
    assert stream.write("\x1b") == 1


def test_streams_are_escaped_once(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    escape_streams()
    stream = sys.stdout
    escape_streams()
    assert sys.stdout is stream
    assert sys.stderr is None


def test_a_name_cannot_begin_a_line(capsys):
    line("saved", "a\nnext     rm -rf\x1b")
    line("", "b", sys.stderr)
    say("one\x9b\ntwo")
    assert capsys.readouterr() == ("saved    a\\nnext     rm -rf\\x1b\none\\x9b\ntwo\n", "         b\n")


def test_an_error_is_escaped_where_python_prints_it():
    fault = Error("a\x1b\n\tb", problems=["c\u202e\nd"], exit_code=4)
    assert str(fault) == "a\\x1b\n\tb\n  c\\u202e\n    d"
    assert (fault.message, fault.problems) == ("a\x1b\n\tb", ("c\u202e\nd",))
    assert escape(str(fault), LINES) == str(fault)


def test_the_traceback_of_a_command_is_escaped_and_has_no_colours():
    """Python 3.13 colours it on a terminal, and asks for one by this variable."""
    code = "from seqjax.terminal.stream import escape_streams; escape_streams(); raise RuntimeError('\\x1b[8m')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"FORCE_COLOR": "1"}, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(b"RuntimeError: \\x1b[8m\n")
    assert b"\x1b" not in done.stderr
    assert b"\\x1b[0m" not in done.stderr

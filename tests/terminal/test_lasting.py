"""Streams that drop what cannot be written. Real pipes and devices are in tests/cli/test_outputs.py."""

import errno
import io
import os
import subprocess
import sys

import pytest

from seqjax.terminal.console import Console, Live
from seqjax.terminal.lasting import LastingStream, lasting, open_standard_files
from seqjax.terminal.stream import say


class Fails:
    """A stream that cannot be written from the n-th call on."""

    closed = False
    flush = lambda self: None
    isatty = lambda self: True

    def __init__(self, number=errno.EPIPE, n=1):
        self.number, self.n, self.calls, self.texts = number, n, 0, []

    def write(self, text):
        self.calls += 1
        if self.calls >= self.n:
            raise OSError(self.number, os.strerror(self.number))
        self.texts.append(text)


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    ("stream", "is_unread"), [(Fails(errno.EPIPE), True), (Fails(errno.ENOSPC), False), (closed(), True), (None, True)]
)
def test_what_cannot_be_written_is_dropped_and_noted_once(stream, is_unread):
    notes = []
    lasts = LastingStream(stream, notes.append)
    assert (lasts.fault, lasts.is_unread) == (None, False)
    for _ in range(3):
        print("text", file=lasts, flush=True)
    lasts.writelines(["text"])
    assert len(notes) == 1
    assert lasts.fault is not None
    assert lasts.is_unread == is_unread
    assert getattr(stream, "calls", 1) == 1, "nothing is written after a fault"


def test_all_before_the_fault_is_written_and_what_flushing_raises_is_a_fault():
    lasts = LastingStream(Fails(n=3))
    assert [lasts.write(text) for text in ("one", "two", "three")] == [3, 3, 5]
    assert lasts.stream.texts == ["one", "two"]
    lasts = LastingStream(Fails())
    lasts.stream.flush = lambda: lasts.stream.write("")
    lasts.flush()
    assert lasts.fault.errno == errno.EPIPE


def test_it_is_otherwise_the_stream_itself():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    lasts = LastingStream(stream)
    assert lasts.encoding == "latin-1"
    with pytest.raises(UnicodeEncodeError):
        lasts.write("😀")
    assert lasts.fault is None
    assert lasting(lasting(stream)).stream is stream
    assert (LastingStream(Fails()).isatty(), LastingStream(None).isatty(), lasts.isatty()) == (True, False, False)


def test_lines_and_consoles_last_and_one_note_is_on_stderr(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Fails(errno.ENOSPC, n=2))
    say("one")  # print writes the text, then the end of the line
    say("two")
    console = Console()
    assert console.is_terminal
    with Live("live", console, auto_refresh=False) as live:
        console.print("three")
        live.update("four", refresh=True)
    say("five")
    note = "note     stdout cannot be written (No space left on device): nothing more is printed, and the work goes on"
    assert capsys.readouterr().err == f"{note}\n"
    assert sys.stdout.calls == 2


@pytest.mark.parametrize("stderr", [None, Fails(), closed()])
def test_without_stderr_nothing_is_noted(monkeypatch, stderr):
    """The fault of stdout is noted in vain, and what is printed next is dropped as well."""
    stdout = Fails()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    say("one")
    say("two")
    assert stdout.calls == 1
    assert getattr(stderr, "calls", 1) == 1


def test_a_new_file_never_gets_the_number_of_a_standard_stream(tmp_path):
    script = """
import os, sys
from seqjax.terminal.lasting import open_standard_files
for numbers in ([0], [1], [2], [1, 2], [0, 1, 2]):
    if os.fork() == 0:
        for number in numbers:
            os.close(number)
        open_standard_files()
        is_last = open("file", "w").fileno() > 2
        os._exit(not (is_last and all(os.readlink(f"/proc/self/fd/{number}") == os.devnull for number in numbers)))
    assert os.wait()[1] == 0, numbers
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=60).returncode == 0


def test_standard_streams_that_are_open_stay():
    before = [os.fstat(number) for number in range(3)]
    open_standard_files()
    assert [os.fstat(number) for number in range(3)] == before

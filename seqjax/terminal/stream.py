"""stdout and stderr without control characters, and lines that stay one line whatever name is in them."""

import sys
import traceback
from typing import Any, TextIO

from seqjax.errors import LINES, escape
from seqjax.terminal.lasting import LastingStream, lasting


class EscapedStream:
    """A stream of text in which control characters are shown as escapes of Python; newlines and tabs stay.

    It says that it is no terminal, so that libraries print neither colours nor progress bars that move the cursor:
    their control characters would be shown too.

    Args:
        stream: where the text goes.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes a text, and returns its length before it was escaped."""
        self.stream.write(escape(text, LINES))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """False: what is written does not control a terminal."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def escape_streams() -> None:
    """Escapes all that this process prints by `sys.stdout` and `sys.stderr` from here on.

    That includes what libraries and plugins print, warnings, and the traceback of an exception that nothing catches.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Python has no such stream if the process was started without it.
        if stream is not None and not isinstance(stream, EscapedStream):
            setattr(sys, name, EscapedStream(stream))
    # Python's own hook colours a traceback by control characters.
    sys.excepthook = traceback.print_exception


def unescaped(stream: Any) -> Any:
    """The stream itself, for a live line, which moves the cursor; its writer has to escape what it writes."""
    return stream.stream if isinstance(stream, EscapedStream) else stream


def say(text: str, file: TextIO | None = None) -> None:
    """Prints lines, escaped, and flushes them. Modules that scripts and notebooks use too print by this function.

    Lines that cannot be written are dropped.
    """
    stream = lasting(sys.stdout) if file is None else LastingStream(file)
    print(escape(text, LINES), file=stream, flush=True)


def line(label: str, text: object, file: TextIO | None = None) -> None:
    """Prints a label and a text in one line: a newline in the name of a file cannot begin a line of its own."""
    say(f"{label:8} {escape(str(text))}", file)

"""Streams that never fail: what cannot be written is dropped, and the program goes on."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

CLOSED = OSError(errno.EBADF, "it is closed")
"""The fault of a stream that was closed, as by `>&-`."""


class LastingStream:
    """A stream of text that drops what cannot be written: after `| head -1`, on a full disk, in a closed terminal.

    Args:
        stream: where the text goes; None: it was closed before Python started.
        note: is called with the reason when a text is dropped for the first time.

    Attributes:
        fault: the exception of the first write that failed; None: none did.
    """

    def __init__(self, stream: Any, note: Callable[[str], Any] = lambda reason: None):
        self.stream, self.note = stream, note
        self.fault: OSError | None = None

    def write(self, text: str) -> int:
        """Writes a text, if possible, and returns its length."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Writes what is buffered, if possible."""
        if self.stream is not None:
            self._try(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream is not None and not self._is_closed() and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def is_unread(self) -> bool:
        """Whether a text was dropped because nobody reads the stream, and not because a disk is full."""
        return self.fault is not None and self.fault.errno in (errno.EPIPE, errno.EBADF)

    def _try(self, work):
        if self.fault is not None:
            return
        try:
            if self._is_closed():
                raise CLOSED
            work(self.stream)
        except OSError as fault:
            self.fault = fault
            self.note(fault.strerror or str(fault))

    def _is_closed(self):
        return self.stream is None or getattr(self.stream, "closed", False)


_kept = LastingStream(None)
"""The stream that `lasting` has returned last."""


def lasting(stream: Any) -> LastingStream:
    """A stream as a `LastingStream`, the same one each time, so that it says only once that printing has ended."""
    global _kept
    if isinstance(stream, LastingStream):
        return stream
    if _kept.stream is not stream:
        _kept = LastingStream(stream, say_that_printing_ends)
    return _kept


def say_that_printing_ends(reason: str) -> None:
    """Says on stderr, if it is there, that stdout cannot be written."""
    text = f"note     stdout cannot be written ({reason}): nothing more is printed, and the work goes on"
    print(text, file=LastingStream(sys.stderr), flush=True)


def open_standard_files() -> None:
    """Opens the null device for each of stdin, stdout and stderr that is closed.

    Otherwise the next file that is opened, such as one of a run, would get its number, and what libraries of C print
    would be written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the least number that is free

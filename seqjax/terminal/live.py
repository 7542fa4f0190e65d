"""Lines of text with a live line below them: on a terminal, or below a cell of a notebook."""

import sys
import time
from typing import Any

from rich.file_proxy import FileProxy

from seqjax.errors import LINES, check_type, escape
from seqjax.terminal.console import Console, Live
from seqjax.terminal.lasting import LastingStream
from seqjax.terminal.stream import unescaped

EVERY = 0.1
"""Seconds from one change of a cell's output to the next, at least: each one is a message to the browser."""


def shows_progress(asked: bool | None) -> bool:
    """Whether to show progress: as asked; by default on a terminal and in a notebook, and not in a pipe or a file.

    By default nothing is shown below the live line of a caller, such as a run whose callback calls `measure`.

    Args:
        asked: the argument `progress` of a public function; None: by default.

    Raises:
        Error: it is something else.
    """
    check_type("progress", asked, bool | None, "True, False or None")
    if asked is not None:
        return asked
    stream = unescaped(sys.stdout)
    if isinstance(stream, FileProxy):  # made by rich, while a live line is shown
        return False
    return Console().is_jupyter or LastingStream(stream).isatty()


def open_output(live_text: str, show: bool) -> tuple[Any, Any]:
    """A console for lines that stay, and a display for the live line, which is not started. Both escape what they show.

    In a notebook both are one `CellOutput`, since rich shows each line there as an output of its own.

    Args:
        live_text: the first text of the live line.
        show: False: nothing is printed.
    """
    console = Console(show)
    if console.is_jupyter:
        cell = CellOutput(live_text, show)
        return cell, cell
    return console, Live(live_text, console, auto_refresh=False)


class CellOutput:
    """One output of a notebook's cell, which is replaced as lines are added; has the methods of rich that we call.

    Args:
        live_text: the first text of the live line.
        show: False: nothing is shown.
    """

    is_terminal = True
    """The live line is replaced, as on a terminal."""

    def __init__(self, live_text: str, show: bool):
        self.lines: list[str] = []
        self.live_text, self.show = live_text, show
        self.is_started = False
        self.handle: Any = None
        self.shown = 0.0

    def start(self, refresh: bool = False) -> None:
        """Shows the live line from here on."""
        self.is_started = True
        self._refresh()

    def stop(self) -> None:
        """Removes the live line."""
        self.is_started = False
        if self.handle is not None:
            self._refresh()

    def print(self, line: str) -> None:
        """Adds a line that stays."""
        self.lines.append(escape(line, LINES))
        self._refresh()

    def update(self, text: str, refresh: bool = False) -> None:
        """Replaces the live line."""
        self.live_text = escape(text, LINES)
        if refresh and time.monotonic() - self.shown >= EVERY:
            self._refresh()

    def _refresh(self) -> None:
        if not self.show:
            return
        from IPython.display import display

        self.shown = time.monotonic()
        live_lines = [self.live_text] if self.is_started else []
        text = {"text/plain": "\n".join([*self.lines, *live_lines])}
        if self.handle is None:
            self.handle = display(text, raw=True, display_id=True)
        else:
            self.handle.update(text, raw=True)

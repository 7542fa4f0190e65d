"""The console of rich for lines that stay above a live line."""

import sys
from typing import Any

from rich.console import Console as RichConsole
from rich.file_proxy import FileProxy
from rich.live import Live as RichLive
from rich.text import Text

from seqjax.errors import LINES, escape
from seqjax.terminal.lasting import lasting
from seqjax.terminal.stream import EscapedStream, unescaped


class Console(RichConsole):
    """Prints plain lines and escapes their control characters, but not the ones that rich prints for the live line.

    While a live line is shown, rich passes here also what other code prints.

    Args:
        show: False: nothing is printed.
    """

    def __init__(self, show: bool = True):
        stream: Any = lasting(unescaped(sys.stdout))
        super().__init__(file=stream, highlight=False, soft_wrap=True, quiet=not show)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints texts, in which nothing is markup."""
        super().print(*map(_escaped, objects), **options)


class Live(RichLive):
    """A live line below the lines of a console, which goes away at the end. It is escaped, and has no markup."""

    def __init__(self, text: str, console: Console, **options: Any):
        super().__init__(_escaped(text), console=console, transient=True, **options)

    def start(self, refresh: bool = False) -> None:
        """Shows the live line. From here on, rich prints above it what other code prints."""
        super().start(refresh)
        self.console.show_cursor()  # which rich has hidden, and a process that is killed could not show again
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            # Otherwise rich would interpret control characters as styles. At the end, rich restores the previous
            # stream.
            if isinstance(stream, FileProxy):
                setattr(sys, name, EscapedStream(stream))

    def update(self, renderable: Any, *, refresh: bool = False) -> None:
        """Replaces the text of the live line."""
        super().update(_escaped(renderable), refresh=refresh)

    def get_renderable(self) -> Any:
        """What rich shows; `get_renderable` among the options returns a text."""
        return _escaped(super().get_renderable())


def _escaped(shown: Any) -> Any:
    """A text without control characters and styles; other objects, which are rich's own, are returned as they are."""
    return Text(escape(str(shown), LINES)) if isinstance(shown, str | Text) else shown

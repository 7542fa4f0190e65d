"""`show`: prints a table, or a result that has tables."""

import sys
from typing import Any

from rich.console import Console

from seqjax.terminal.lasting import lasting
from seqjax.terminal.stream import say, unescaped


def show(result: Any) -> None:
    """Prints a result: on a terminal as wide as it has room, elsewhere as plain text.

    Args:
        result: has texts and tables that contain no control characters, both by `str` and for rich.
    """
    stream: Any = lasting(unescaped(sys.stdout))
    if stream.isatty():
        Console(file=stream, highlight=False).print(result)
    else:
        say(str(result))

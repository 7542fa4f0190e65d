"""The width of the terminal."""

import shutil
import sys

from seqjax.terminal.lasting import LastingStream
from seqjax.terminal.stream import unescaped


def terminal_width() -> int | None:
    """The characters of a line of the terminal that stdout is; None: stdout is a pipe, a file or a notebook."""
    if not LastingStream(unescaped(sys.stdout)).isatty():
        return None
    return shutil.get_terminal_size().columns

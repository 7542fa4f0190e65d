"""`draw`: draws a figure into a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqjax.errors import Error
from seqjax.files import disk_errors


def draw(make: Callable[[], Any], file: Path, flag: str = "") -> None:
    """Draws a figure into a file, and prints the name of the file.

    Args:
        make: makes the matplotlib figure.
        file: the file; its ending is the format.
        flag: the flag that named the file, followed by a space; for error messages.

    Raises:
        Error: a format that matplotlib does not know; exit code 6: the file cannot be written.
    """
    try:
        with disk_errors(file):
            make().savefig(file, dpi=150)
    # An `Error` of `make` or of the disk is a ValueError too.
    except Error:
        raise
    # matplotlib raises it for an unknown format.
    except ValueError as fault:
        raise Error(f"{flag}{file}: {fault}") from fault
    print(f"figure   {file}")

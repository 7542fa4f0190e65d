"""A figure that a command writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqjax.errors import Error


def draw(make: Callable[[], Any], file: Path, flag: str = "") -> None:
    """Draws into a file, and says so.

    Args:
        make: gives the matplotlib figure.
        file: its name ends with the format.
        flag: by which the user named it.
    """
    from seqjax.runs import folder

    try:
        with folder.disk_errors(file):
            make().savefig(file, dpi=150)
    except ValueError as fault:  # a format that matplotlib does not know
        raise fault if isinstance(fault, Error) else Error(f"{flag}{file}: {fault}") from fault
    print(f"figure   {file}")

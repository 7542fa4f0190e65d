"""`draw`: draws a figure into a file, and prints its caption."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqjax.errors import Error
from seqjax.extras import needing
from seqjax.files import replace
from seqjax.terminal.stream import line


def check_figure(file: Path, flag: str, new: Path | None = None) -> None:
    """Checks that a figure can be drawn into a file, before work that takes long.

    Args:
        file: the file.
        flag: the flag that named it, followed by a space.
        new: a folder that this work makes.

    Raises:
        Error: a format that matplotlib does not know; there is no such folder.
    """
    with needing("plot", f"{flag}{file}"):
        from matplotlib.backend_bases import FigureCanvasBase

    known, ending = FigureCanvasBase.get_supported_filetypes(), file.suffix.removeprefix(".")
    if ending and ending.lower() not in known:
        names = ", ".join(sorted(known))
        raise Error(f"{flag}{file}: Format {ending!r} is not supported (supported formats: {names})")
    if not file.parent.is_dir() and file.parent != new:
        raise Error(f"{flag}{file}: there is no folder {file.parent}; make it, or name another file")


def draw(make: Callable[[], Any], file: Path, flag: str = "") -> None:
    """Draws a figure into a file, and prints the name of the file and the caption.

    Args:
        make: makes the figure.
        file: the file; its ending is the format, PNG if it has none.
        flag: the flag that named the file, followed by a space; for error messages.

    Raises:
        Error: a format that matplotlib does not know; exit code 6: the file cannot be written.
    """
    if file.is_dir():
        raise Error(f"{flag}{file} is a folder; name a file in it")
    if not file.suffix:  # matplotlib would add .png, so that the printed name would be wrong
        file = file.with_name(f"{file.name}.png")
    from seqjax.runs.files.folder import HISTORY, MANIFEST

    image = io.BytesIO()
    try:
        figure = make()
        figure.savefig(image, format=file.suffix.removeprefix("."))
    # An `Error` of `make` is a ValueError too.
    except Error:
        raise
    # matplotlib raises it for an unknown format.
    except ValueError as fault:
        raise Error(f"{flag}{file}: {fault}") from fault
    if file.name == HISTORY and (file.parent / MANIFEST).exists():
        raise Error(f"{flag}{file} is a file of the run in this folder; name another file")
    replace(file, image.getvalue(), mark=image.getvalue()[:4])  # it may replace a figure of the same format
    line("figure", file)
    if figure.caption_text:
        line("caption", figure.caption_text)

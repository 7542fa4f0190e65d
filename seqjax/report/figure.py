"""`Figure`, a figure of matplotlib that a notebook shows and that has a caption, and its bytes as a file."""

import io
from typing import Any, Self

import matplotlib
import matplotlib.figure

from seqjax.report import latex

FILE_DPI, SCREEN_DPI = 150, 120
"""The dots per inch of a PNG: in a file, and in a notebook, which keeps the images of all its cells in its file."""


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib that a notebook shows where it is the last expression of a cell.

    IPython shows figures of `matplotlib.figure.Figure` itself only after `%matplotlib inline`. After it, IPython uses
    the printer of this magic in place of the method below, so that the figure is shown once.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.notes: list[str] = []
        """What a reader has to know beside the figure: the title, and what lines and bands are. Each is one line."""

    def begin_caption(self, note: str) -> Self:
        """Puts a note that says what is drawn at the beginning of the caption, and returns the figure."""
        self.notes.insert(0, note[:1].upper() + note[1:])
        return self

    @property
    def caption(self) -> str:
        r"""The notes as sentences for `\caption` of LaTeX, with its special characters escaped."""
        return latex.plain(" ".join(f"{note}." for note in self.notes)).replace("\u202f", r"\,")

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        return image_bytes(self, "png", SCREEN_DPI), {"width": screen_width(self)}


def screen_width(figure: matplotlib.figure.Figure) -> int:
    """The width at which a notebook shows a figure, in pixels of 1/100 inch."""
    return round(100 * figure.get_figwidth())


def image_bytes(figure: matplotlib.figure.Figure, kind: str, dpi: int = FILE_DPI) -> bytes:
    """The figure as a file, without a date and with identifiers that do not change.

    Args:
        figure: any figure of matplotlib.
        kind: "png" or "svg".
        dpi: the dots per inch of a PNG.
    """
    data = io.BytesIO()
    metadata = {"Date" if kind == "svg" else "Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "seqjax"}):
        # Each drawing starts from the layout of the last one. After two drawings the layout has settled, so that a
        # figure gives the same bytes however often it was drawn before.
        for _ in range(2):
            figure.draw_without_rendering()
        figure.savefig(data, format=kind, dpi=dpi, metadata=metadata)
    return data.getvalue()

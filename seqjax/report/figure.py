"""`Figure`, a figure of matplotlib in the style of seqjax, with a caption and a table, and its bytes as a file."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import matplotlib
import matplotlib.figure
from matplotlib.backend_bases import RendererBase

from seqjax.report import latex

if TYPE_CHECKING:  # a table shows itself in a notebook, which has figures too
    from seqjax.report.table import Table

STYLE = matplotlib.rc_params_from_file(Path(__file__).with_name("seqjax.mplstyle"), use_default_template=False)
"""The settings of matplotlib with which figures are drawn and saved."""
SCREEN_DPI = 150
"""The dots per inch in a notebook, which keeps the images of all its cells in its file."""


class Figure(matplotlib.figure.Figure):
    """A figure of matplotlib that a notebook shows where it is the last expression of a cell.

    IPython shows figures of `matplotlib.figure.Figure` itself only after `%matplotlib inline`. After it, IPython uses
    the printer of this magic in place of the method below, so that the figure is shown once.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.notes: list[str] = []
        """What a reader has to know beside the figure, such as what bands are: sentences without their full stop."""
        self.table: Table | None = None
        """The numbers that are drawn; a `Report` saves them beside the figure."""

    def begin_caption(self, note: str) -> Self:
        """Puts a note that says what is drawn at the beginning of the caption, and returns the figure."""
        self.notes.insert(0, note[:1].upper() + note[1:])
        return self

    def add_note(self, note: str) -> None:
        """Adds a sentence to the caption, without its full stop."""
        self.notes.append(note[:1].upper() + note[1:])

    @property
    def caption_text(self) -> str:
        """The notes as sentences of plain text."""
        return " ".join(f"{note}." for note in self.notes)

    @property
    def caption(self) -> str:
        r"""The notes as sentences for `\caption` of LaTeX, with its special characters escaped."""
        return latex.plain(self.caption_text).replace("\u202f", r"\,")

    # matplotlib reads some settings when a figure is made, some when it is drawn, and some when it is saved.
    def draw(self, renderer: RendererBase) -> None:
        """Draws the figure in the style of seqjax."""
        with matplotlib.rc_context(STYLE):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Saves the figure in the style of seqjax: text stays text in SVG and PDF; see `matplotlib.figure.Figure`."""
        with matplotlib.rc_context(STYLE):
            super().savefig(fname, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        return image_bytes(self, "png", SCREEN_DPI), {"width": screen_width(self)}


def screen_width(figure: matplotlib.figure.Figure) -> int:
    """The width at which a notebook shows a figure, in pixels of 1/120 inch, at which its text is legible."""
    return round(120 * figure.get_figwidth())


def image_bytes(figure: matplotlib.figure.Figure, kind: str, dpi: int | None = None) -> bytes:
    """The figure as a file, without a date and with identifiers that do not change.

    Args:
        figure: any figure of matplotlib.
        kind: "png" or "svg".
        dpi: the dots per inch of a PNG; None: those of the style.
    """
    data = io.BytesIO()
    metadata = {"Date" if kind == "svg" else "Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "seqjax", **STYLE}):
        # Each drawing starts from the layout of the last one. After two drawings the layout has settled, so that a
        # figure gives the same bytes however often it was drawn before.
        for _ in range(2):
            figure.draw_without_rendering()
        figure.savefig(data, format=kind, dpi=dpi, metadata=metadata)
    return data.getvalue()

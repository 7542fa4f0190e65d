"""`style`: the sizes, colours and line styles of figures."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import matplotlib
import matplotlib.style
from cycler import cycler

from seqjax.errors import Error, nearest

DASHES = ("-", "--", "-.", ":")
"""The line styles, in the order in which they are used."""
PETROFF = matplotlib.style.library["petroff10"]["axes.prop_cycle"]
"""Ten colours for the colour-blind (Petroff 2021, arXiv:2107.02270)."""
PAPER = ("#003F8A", "#DCA52A", "#C03A5B", "#279A91", "#000000")
"""Five colours that also differ in luminance, by at least 11 of the 100 units of CIE L*."""
PAPERS = {
    "paper": (3.25, 2.3),
    "icml": (3.25, 2.3),
    "icml-wide": (6.75, 2.8),
    "ieee": (252 / 72.27, 2.4),
    "ieee-wide": (516 / 72.27, 2.8),
    "neurips": (5.5, 2.8),
}
"""The width and the height of a figure in inches by the name of a style for papers.

A figure is as wide as the text or a column in the LaTeX classes, where a point is 1/72.27 inch.
"""
OF_PAPERS = {
    "axes.prop_cycle": cycler(color=PAPER * 4) + cycler(linestyle=DASHES * 5),
    "axes.formatter.useoffset": False,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "savefig.format": "pdf",
    "savefig.dpi": 300,
}
"""The settings of matplotlib that all styles for papers share."""
STYLES: dict[str, dict[Any, Any]] = {
    "default": {
        "figure.figsize": (6, 4),
        "axes.prop_cycle": cycler(linestyle=DASHES) * PETROFF,
        "axes.formatter.useoffset": False,
    },
    **{name: {"figure.figsize": size, **OF_PAPERS} for name, size in PAPERS.items()},
}
"""The settings of matplotlib by the name of a style."""

_current: ContextVar[str] = ContextVar("style", default="default")


@contextlib.contextmanager
def style(name: str) -> Iterator[None]:
    """A context in which figures are drawn in a style, and in which they are to be saved.

    >>> import io
    >>> import seqjax as sj
    >>> file = io.BytesIO()  # or a name such as "curves.pdf"
    >>> with sj.plot.style("paper"):
    ...     figure = sj.plot.lines({"rnn": [3.0, 2.0, 1.5]})
    ...     figure.savefig(file)
    >>> float(figure.get_figwidth()), file.getvalue()[:4]
    (3.25, b'%PDF')

    A figure for a paper has neither a title nor an explanation. They are in `figure.caption`, to be copied into LaTeX.

    Settings of matplotlib are restored at the end. A setting that is changed inside the context, as with
    `matplotlib.rc("font", family="serif")`, holds inside it.

    Args:
        name: `"paper"`: 3.25 inches wide, the column of most two-column papers, with texts of 7 and 8 points; vector
            output (PDF by default) whose fonts are TrueType and embedded, so that its text can be edited and searched;
            five colours for the colour-blind which also differ in luminance, with four line styles. The same in other
            widths: `"neurips"`: 5.5 inches, the text; `"icml"` and `"icml-wide"`: 3.25 and 6.75 inches, a column and
            two; `"ieee"` and `"ieee-wide"`: 3.487 and 7.14 inches, a column and two of IEEEtran. `"default"`: 6 inches
            wide, with ten colours for the colour-blind.

    Raises:
        Error: there is no such style.
    """
    if not isinstance(name, str) or name not in STYLES:
        raise Error(f"no style {name!r}{nearest(name, STYLES)} (styles: {', '.join(STYLES)})")
    token = _current.set(name)
    try:
        with matplotlib.rc_context(STYLES[name]):
            yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def current() -> Iterator[None]:
    """The style in which a figure is drawn: the one chosen by `style`, or the default one."""
    if _current.get() == "default":
        with style("default"):
            yield
    else:
        yield


def is_for_paper() -> bool:
    """Whether the current style is for papers: a figure is as wide as the style says, and its texts are names alone."""
    return _current.get() in PAPERS

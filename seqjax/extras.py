"""The optional packages of seqjax by extra, and the error that says which extra to install."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator

from seqjax.errors import Error

EXTRAS = {
    "plot": ("matplotlib",),
    "data": ("datasets", "pyarrow", "tokenizers", "pooch", "requests"),
    "flax": ("flax",),
    "digits": ("sklearn",),
    "tensorboard": ("tensorboardX",),
    "trackio": ("trackio",),
}
"""Extra -> the packages that it installs. The extra `all` installs those of plot, data and flax."""


class MissingExtra(Error, ImportError):  # noqa: N818
    """An optional package is not installed."""


@contextlib.contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """A context in which packages of an extra are imported.

    Args:
        extra: one of the keys of `EXTRAS`.
        what: what needs it, such as "a figure".

    Raises:
        MissingExtra: one of these packages is not installed; the message has the command that installs it.
    """
    cause = None
    try:
        yield
        missing = next(filter(_is_folder, EXTRAS[extra]), None)
    except ModuleNotFoundError as fault:
        missing, cause = (fault.name or "").partition(".")[0], fault
        if missing not in EXTRAS[extra]:
            raise
    if missing:
        raise MissingExtra(f"{what} needs {missing}, which is not installed; type: {command(extra)}") from cause


def _is_folder(package: str) -> bool:
    """Whether a folder without code was imported for a package, such as `datasets` in the working folder."""
    module = sys.modules.get(package)
    return module is not None and getattr(module, "__file__", None) is None and hasattr(module, "__path__")


def command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'seqjax[{extra}]'"


def why_no_figure() -> str:
    """Why no figure can be written, in a sentence; empty if one can. Imports matplotlib."""
    try:
        with needing("plot", "a figure"):
            import matplotlib.figure  # noqa: F401
    except MissingExtra:
        return f"no figure is written, since matplotlib is not installed; for figures type: {command('plot')}"
    except ImportError as fault:
        return f"no figure is written, since matplotlib cannot be imported: {fault}"
    return ""


def is_installed(extra: str) -> bool:
    """Whether all packages of an extra are installed. Imports none of them."""
    # A folder without code, such as one of the same name in the working folder, has no origin.
    specs = map(importlib.util.find_spec, EXTRAS[extra])
    return all(spec is not None and spec.origin is not None for spec in specs)

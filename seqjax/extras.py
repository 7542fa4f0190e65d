"""The optional packages of seqjax by extra, and the error that says which extra to install."""

import contextlib
import importlib.util
from collections.abc import Iterator

from seqjax.errors import Error

EXTRAS = {
    "plot": ("matplotlib",),
    "data": ("datasets", "pyarrow", "tokenizers", "pooch", "requests"),
    "flax": ("flax",),
    "all": ("argcomplete",),
    "digits": ("sklearn",),
    "tensorboard": ("tensorboardX",),
    "trackio": ("trackio",),
}
"""Extra -> the packages that it installs. `all` also installs those of plot, data and flax."""


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
    try:
        yield
    except ModuleNotFoundError as fault:
        package = (fault.name or "").partition(".")[0]
        if package not in EXTRAS[extra]:
            raise
        raise MissingExtra(f"{what} needs {package}, which is not installed; type: {command(extra)}") from fault


def command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'seqjax[{extra}]'"


def without_figure() -> str:
    """Why no figure is written where the extra `plot` is not installed."""
    return f"no figure is written, since matplotlib is not installed; for figures type: {command('plot')}"


def is_installed(extra: str) -> bool:
    """Whether all packages of an extra are installed. Imports none of them."""
    return all(importlib.util.find_spec(package) is not None for package in EXTRAS[extra])

"""Reports an exception of a plugin's method in the terms of its author: the method, and the author's own line."""

import contextlib
import errno
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from seqjax.errors import Error
from seqjax.plugin.registry import name_of

LONGEST = 300
"""The largest number of characters that are shown of a message."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The errors of the system that no author can mend."""


class Mistake(Error):  # noqa: N818
    """A plugin's method raised an exception that is no `Error`."""


@contextlib.contextmanager
def calling(plugin: Any, method: str, advice: str = "") -> Iterator[None]:
    """Turns an exception of a plugin's method into a `Mistake`, which names the method and the author's own line.

    An `Error` passes unchanged, and so do exceptions that are no mistake of the author, such as a full memory.

    Args:
        plugin: the plugin whose method is called.
        method: the name of the method.
        advice: what the method is given, or should return.

    Raises:
        Mistake: the method raised another exception.
    """
    try:
        yield
    except (Exception, SystemExit) as fault:
        if not _is_mistake(fault):
            raise
        head = f"{plugin.kind} {name_of(plugin)}: {method} raises {cause(plugin, fault)}"
        raise Mistake(f"{head}\n{advice}" if advice else head) from fault


@contextlib.contextmanager
def tracing(*plugins: Any) -> Iterator[None]:
    """Turns an exception of one of several plugins, which are traced together, into a `Mistake` that names it.

    An exception that passed through no file of these plugins is raised unchanged.

    Args:
        plugins: values, those of which that are no plugins are left out.

    Raises:
        Mistake: a plugin raised an exception that is no `Error`.
    """
    try:
        yield
    except (Exception, SystemExit) as fault:
        # The innermost frame of an author shows whose mistake it is, if a strategy calls a model.
        frames = traceback.extract_tb(fault.__traceback__) if _is_mistake(fault) else []
        for frame in reversed(frames):
            for plugin in (each for each in plugins if hasattr(each, "kind")):
                if frame.filename in _files(plugin):
                    text = f"{plugin.kind} {name_of(plugin)}: {frame.name} raises {cause(plugin, fault)}"
                    raise Mistake(text) from fault
        # A method with other arguments has no frame of its own: Python names it in the message.
        called = re.match(r"([\w.<>]+)\.(\w+)\(\) (takes|missing|got)", str(fault))
        for plugin in (each for each in plugins if called and hasattr(each, "kind")):
            if called and called[1] in {cls.__qualname__ for cls in type(plugin).__mro__}:
                text = f"{plugin.kind} {name_of(plugin)}: {called[2]} raises {cause(plugin, fault)}"
                raise Mistake(
                    f"{text}\nIts arguments are those of {type(plugin).__mro__[1].__name__}.{called[2]}"
                ) from fault
        raise


def cause(plugin: Any, fault: BaseException) -> str:
    """The type and message of an exception that a plugin raised, and the author's line that raised it."""
    message = str(fault).strip().partition("\n")[0]
    message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
    frames = [f for f in traceback.extract_tb(fault.__traceback__) if f.filename in _files(plugin)]
    where = ""
    if frames:
        file, number = frames[-1].filename, frames[-1].lineno
        where = f"\n{file}, line {number}: {linecache.getline(file, number or 0).strip()}"
    return f"{type(fault).__name__}: {message}{where}"


def _is_mistake(fault: BaseException) -> bool:
    """Whether an author can mend it; an `Error` is meant to be read as it is."""
    no_resources = getattr(fault, "errno", None) in FULL_DISK or "RESOURCE_EXHAUSTED" in str(fault)
    return not isinstance(fault, Error | MemoryError) and not no_resources


def _files(plugin: Any) -> set[str]:
    """The files of the classes of a plugin that the author has written."""
    modules = {cls.__module__ for cls in type(plugin).__mro__ if cls.__module__.partition(".")[0] != "seqjax"}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    return {file for file in files if file}

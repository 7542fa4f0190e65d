"""Reports an exception of a plugin's method in the terms of its author: the method, and the author's own line."""

import contextlib
import errno
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqjax.errors import Error
from seqjax.plugin import registry
from seqjax.plugin.registry import name_of

LONGEST = 300
"""The largest number of characters that are shown of a message."""

LIBRARIES = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(__file__).parents[1], *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
)
"""The folders of seqjax, of Python and of what is installed."""
EXITS = ("_sitebuiltins.py", "<frozen _sitebuiltins>")
"""The files of `exit` and `quit`."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The errors of the system that no author can mend."""


class Mistake(Error):  # noqa: N818
    """A plugin's method raised an exception that is no `Error`, or returned something that it must not return."""


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

    The innermost frame outside of libraries shows whose mistake it is. If it belongs to none of these plugins, such as
    a frame of the step that a user differentiates, the exception is raised unchanged.

    Args:
        plugins: plugins; other values are left out.

    Raises:
        Mistake: a plugin raised an exception that is no `Error`.
    """
    try:
        yield
    except (Exception, SystemExit) as fault:
        if not _is_mistake(fault):
            raise
        known = [plugin for plugin in plugins if hasattr(plugin, "kind")]
        plugin, method = _by_frame(known, fault) or _by_message(known, fault) or (None, "")
        if plugin is None:
            raise
        raise Mistake(f"{plugin.kind} {name_of(plugin)}: {method} raises {cause(plugin, fault)}") from fault


def mistake_of_any(fault: BaseException) -> Mistake | None:
    """The mistake of the plugin whose own line raised an exception; None if it is the line of no plugin.

    It is for places that no `calling` and no `tracing` covers. Built-in plugins count as seqjax itself.
    """
    if not _is_mistake(fault):
        return None
    known = [registry.class_of(entry) for kind in registry.GROUPS for entry in registry.entries(kind)]
    others = [cls for cls in known if cls is not None and registry.entry_of(cls).distribution != registry.BUILT_IN]
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        if os.path.basename(frame.filename) in EXITS:
            continue
        for cls in others:
            if _owns(cls, frame.filename):
                entry = registry.entry_of(cls)
                return Mistake(f"{entry.kind} {entry.name}: {frame.name} raises {_described(fault, cls)}")
        # A signal may arrive at any line: an exit counts as that of a plugin only if it owns the innermost frame.
        if isinstance(fault, SystemExit) or not frame.filename.startswith(LIBRARIES):
            return None
    return None


def is_full_disk(fault: BaseException) -> bool:
    """Whether an exception says that the disk is full, or takes nothing."""
    return getattr(fault, "errno", None) in FULL_DISK


def cause(plugin: Any, fault: BaseException) -> str:
    """The type and message of an exception that a plugin raised, and the author's line that raised it."""
    return _described(fault, type(plugin))


def _described(fault: BaseException, cls: type) -> str:
    message = str(fault).strip().partition("\n")[0]
    if isinstance(fault, NotImplementedError) and not message:  # a method of a base class that the author must write
        message = f"the method {traceback.extract_tb(fault.__traceback__)[-1].name} is missing"
    message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
    frames = [frame for frame in traceback.extract_tb(fault.__traceback__) if _owns(cls, frame.filename)]
    where = ""
    if frames:
        file, number = frames[-1].filename, frames[-1].lineno
        where = f"\n{file}, line {number}: {linecache.getline(file, number or 0).strip()}"
    return f"{type(fault).__name__}: {message}{where}"


def _by_frame(plugins: list[Any], fault: BaseException) -> tuple[Any, str] | None:
    """The plugin that owns the innermost frame outside of libraries, and the function of this frame."""
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        for plugin in plugins:
            if _owns(type(plugin), frame.filename):
                return plugin, frame.name
        if not frame.filename.startswith(LIBRARIES):
            return None
    return None


def _by_message(plugins: list[Any], fault: BaseException) -> tuple[Any, str] | None:
    """The plugin whose method takes other arguments. It has no frame of its own, but Python's message names it."""
    called = re.match(r"([\w.<>]+)\.([\w<>]+)\(\) (?:takes|missing|got)", str(fault))
    for plugin in plugins if called else ():
        if called and called[1] in {cls.__qualname__ for cls in type(plugin).__mro__}:
            return plugin, called[2]
    return None


def _is_mistake(fault: BaseException) -> bool:
    """Whether an author can mend it; an `Error` is meant to be read as it is."""
    no_resources = is_full_disk(fault) or "RESOURCE_EXHAUSTED" in str(fault)
    return not isinstance(fault, Error | MemoryError) and not no_resources


def _owns(plugin: type, file: str) -> bool:
    """Whether a file belongs to the author of a plugin: a file of one of its classes, or of their package."""
    for cls in plugin.__mro__:
        top = cls.__module__.partition(".")[0]
        if top in ("seqjax", "builtins"):
            continue
        folders = getattr(sys.modules.get(top), "__path__", ())
        own = getattr(sys.modules.get(cls.__module__), "__file__", None)
        if file == own or any(file.startswith(f"{folder}{os.sep}") for folder in folders):
            return True
    return False

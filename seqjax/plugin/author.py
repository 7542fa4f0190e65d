"""Reports an exception of a plugin's method in the terms of its author: the method, and the author's own line."""

import contextlib
import errno
import inspect
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
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
def mistakes_of(*plugins: Any) -> Iterator[None]:
    """Turns an exception of one of several plugins into a `Mistake`, which names the method and the author's own line.

    The innermost frame outside of libraries shows whose mistake it is. If it belongs to none of these plugins, such as
    a frame of the step that a user differentiates, the exception is raised unchanged. An `Error` is raised unchanged
    too, and so is what is no mistake of the author, such as a full memory.

    Args:
        plugins: plugins; other values are left out.

    Raises:
        Mistake: a plugin raised an exception that is no `Error`.
    """
    try:
        yield
    except (Exception, SystemExit) as fault:
        known = {type(plugin): f"{plugin.kind} {name_of(plugin)}" for plugin in plugins if hasattr(plugin, "kind")}
        if mistake := _mistake(known, fault):
            raise mistake from fault
        raise


def mistake_of(plugin: Any, fault: BaseException, *made: Any) -> Mistake | None:
    """The mistake of a plugin, or of what it has made, such as the session of a tracker; None: they made none."""
    return _mistake({type(one): f"{plugin.kind} {name_of(plugin)}" for one in (plugin, *made)}, fault)


def mistake_of_any(fault: BaseException) -> Mistake | None:
    """The mistake of the plugin whose own line raised an exception; None if the line belongs to no plugin.

    It is for places that no `mistakes_of` covers. Built-in plugins count as seqjax itself.
    """
    entries = [entry for kind in registry.GROUPS for entry in registry.entries(kind)]
    others = [entry for entry in entries if entry.distribution != registry.BUILT_IN]
    known = {cls: f"{entry.kind} {entry.name}" for entry in others if (cls := registry.class_of(entry)) is not None}
    return _mistake(known, fault)


@contextlib.contextmanager
def advising(text: str) -> Iterator[None]:
    """A context in which a method of a plugin is called: the `Mistake` of its exception says this too."""
    try:
        yield
    except Exception as fault:
        fault.seqjax_advice = text  # type: ignore[attr-defined]
        raise


def is_full_disk(fault: BaseException) -> bool:
    """Whether an exception says that the disk is full or cannot be written."""
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


def _mistake(known: Mapping[type, str], fault: BaseException) -> Mistake | None:
    """The mistake of one of these classes, each with its words; None: none of them made it."""
    if not _is_mistake(fault):
        return None
    cls, method = _by_message(known, fault) or _by_absence(known, fault) or _by_frame(known, fault) or (None, "")
    if cls is None:
        return None
    advice = getattr(fault, "seqjax_advice", "") or _signature(cls, method)
    text = f"{known[cls]}: {method} raises {_described(fault, cls)}"
    return Mistake(f"{text}\n{advice}" if advice else text)


def _by_frame(known: Iterable[type], fault: BaseException) -> tuple[type, str] | None:
    """The class that owns the innermost frame outside of libraries, and its method that this frame is in."""
    owner: type | None = None
    name = ""
    for frame, _ in reversed(list(traceback.walk_tb(fault.__traceback__))):
        file, code = frame.f_code.co_filename, frame.f_code
        if os.path.basename(file) in EXITS:
            continue
        owner = owner or next((cls for cls in known if _owns(cls, file)), None)
        if owner is None:
            # A signal may arrive at any line: an exit comes from a plugin only if the plugin owns the innermost frame.
            if isinstance(fault, SystemExit) or not file.startswith(LIBRARIES):
                return None
            continue
        name = name or code.co_name
        # The author may call functions that are no methods. A method may be a lambda, so it is found by its code.
        for cls in known:
            if method := _method_of(cls, "__code__", code):
                return cls, method
    return None if owner is None else (owner, name)


def _method_of(cls: type, attribute: str, value: object) -> str:
    """The name of the method of a class whose attribute has this value; empty if there is none."""
    methods = ((name, method) for base in cls.__mro__ for name, method in vars(base).items())
    return next((name for name, method in methods if getattr(method, attribute, None) == value), "")


def _by_message(known: Iterable[type], fault: BaseException) -> tuple[type, str] | None:
    """The class whose method takes other arguments. It has no frame of its own, but Python's message names it."""
    called = re.match(r"([\w.<>]+)\.([\w<>]+)\(\) (?:takes|missing|got)", str(fault))
    if called is None:
        return None
    whose, method = called.groups()
    cls = next((cls for cls in known if whose in {each.__qualname__ for each in cls.__mro__}), None)
    if cls is None:
        return None
    return cls, _method_of(cls, "__qualname__", f"{whose}.{method}") or method


def _by_absence(known: Iterable[type], fault: BaseException) -> tuple[type, str] | None:
    """The class that lacks a method, whose base class raises a `NotImplementedError`."""
    if not isinstance(fault, NotImplementedError):
        return None
    *_, (frame, _) = traceback.walk_tb(fault.__traceback__)
    cls = type(frame.f_locals.get("self"))
    return (cls, frame.f_code.co_name) if cls in known else None


def _signature(cls: type, method: str) -> str:
    """How seqjax calls a method, from the same method of its base class; empty if there is none."""
    for base in cls.__mro__ if not method.startswith("_") else ():
        if base.__module__.partition(".")[0] == "seqjax" and inspect.isfunction(vars(base).get(method)):
            names = [name for name in inspect.signature(vars(base)[method]).parameters if name != "self"]
            return f"It is called as {method}({', '.join(names)})"
    return ""


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

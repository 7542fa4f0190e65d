"""Watches the calls by which a process changes a folder: opens for writing, writes, fsyncs, renames, deletions."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock


class Call(NamedTuple):
    """A write-like call.

    Args:
        name: `"open"` (one that may create or empty a file), `"write"`, `"truncate"`, `"fsync"`, `"replace"`,
            `"unlink"`, `"mkdir"`, `"rmdir"`.
        path: the file or folder that it changes.
        descriptor: of a file that is open: its descriptor.
    """

    name: str
    path: Path
    descriptor: int | None = None


Watch = Callable[[Call], None]


def ignore(call: Call) -> None:
    """Does nothing."""


@contextlib.contextmanager
def watched(root: Path, before: Watch, after: Watch = ignore) -> Iterator[None]:
    """A context in which `before` and `after` are called with each write-like call in a folder.

    Each write counts as two, since a kill or a full disk may end it in the middle. The functions of `os` are replaced,
    and files that `os.fdopen` opens for writing; `tests/faults/test_calls.py` proves with strace that nothing else
    changes the folder of a run.

    Args:
        root: the folder.
        before: is called before a call. If it raises an exception, the call is not made.
        after: is called after a call that raised none.
    """
    root = Path(os.path.abspath(root))

    def within(path: Any) -> Path | None:
        found = Path(os.path.abspath(os.fspath(path)))
        return found if found.is_relative_to(root) else None

    def of(descriptor: int) -> Path | None:
        return within(os.readlink(f"/proc/self/fd/{descriptor}"))

    def make(name: str, path: Path | None, work: Callable[[], Any], descriptor: int | None = None) -> Any:
        if path is None:
            return work()
        call = Call(name, path, descriptor)
        before(call)
        result = work()
        after(call)
        return result

    class WatchedFile(io.FileIO):
        def write(self, data):
            path, data = of(self.fileno()), bytes(data)
            parts = [part for part in (data[: len(data) // 2], data[len(data) // 2 :]) if part]
            return sum(
                make("write", path, lambda part=part: super(WatchedFile, self).write(part), self.fileno())
                for part in parts
            )

        def truncate(self, size=None):
            return make("truncate", of(self.fileno()), lambda: super(WatchedFile, self).truncate(size), self.fileno())

    real = {name: getattr(os, name) for name in ("open", "fdopen", "fsync", "replace", "rename")}
    real |= {name: getattr(os, name) for name in ("unlink", "remove", "mkdir", "rmdir")}

    def open_(path, flags, *args, **kwargs):
        writes = flags & (os.O_CREAT | os.O_TRUNC)
        return make("open", within(path) if writes else None, lambda: real["open"](path, flags, *args, **kwargs))

    def fdopen(descriptor, mode="r", *args, **kwargs):
        if mode not in ("r+b", "ab", "wb") or of(descriptor) is None:
            return real["fdopen"](descriptor, mode, *args, **kwargs)
        raw = WatchedFile(descriptor, mode.replace("b", ""))
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def fsync(descriptor):
        return make("fsync", of(descriptor), lambda: real["fsync"](descriptor), descriptor)

    def replace(source, target, **kwargs):
        return make("replace", within(target), lambda: real["replace"](source, target, **kwargs))

    # To delete what is not there or is not empty, or to make a folder that is there, changes nothing.
    def of_path(name, function, is_there):
        def call(path, *args, **kwargs):
            changes = os.path.lexists(path) == is_there and not (name == "rmdir" and os.listdir(path))
            return make(name, within(path) if changes else None, lambda: function(path, *args, **kwargs))

        return call

    stand_ins = {"open": open_, "fdopen": fdopen, "fsync": fsync, "replace": replace, "rename": replace}
    stand_ins |= {name: of_path(name, real[name], True) for name in ("unlink", "rmdir")}
    stand_ins |= {"remove": of_path("unlink", real["remove"], True), "mkdir": of_path("mkdir", real["mkdir"], False)}
    with contextlib.ExitStack() as stack:
        for name, function in stand_ins.items():
            stack.enter_context(mock.patch.object(os, name, function))
        yield

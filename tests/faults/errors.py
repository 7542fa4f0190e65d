"""A disk that fails: an error of the operating system at every write-like call of a run, and the run afterwards."""

import errno
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from faults.calls import Call, watched
from faults.crash import Place
from faults.disk import read_tree, write_tree
from faults.kinds import BY_NAME, Kind, results, tiny
from faults.part import Part, all_or_few, part, together

EXIT_CODE = 6


class Failure(NamedTuple):
    """How a disk fails.

    Args:
        number: the error number.
        at: the names of the calls that can fail with it.
        then: the names of the calls that fail from there on; empty: the next call succeeds.
    """

    number: int
    at: tuple[str, ...]
    then: tuple[str, ...] = ()


GROWING = ("open", "write", "mkdir")
NAMES = ("open", "replace", "unlink", "mkdir", "rmdir")
FAILURES = [
    Failure(errno.ENOSPC, (*GROWING, "fsync"), then=GROWING),
    Failure(errno.EIO, (*NAMES, "write", "truncate", "fsync")),
    Failure(errno.EDQUOT, GROWING, then=GROWING),
    Failure(errno.EROFS, (*NAMES, "write", "truncate"), then=(*NAMES, "write", "truncate")),
    Failure(errno.EACCES, NAMES),
    Failure(errno.EMFILE, ("open",)),
]
WHOLE = "rnn"
"""The kind of run on which each failure is tried at each call. On the others, one failure is tried at each call."""
OTHERS = ("ngram", "sweep of two", "local plugin", "keep best, stop after", "more epochs", "data in memory")


def _fail(failure: Failure, n: int):
    """A watch that fails at the n-th call."""
    count = itertools.count(1)

    def before(call: Call) -> None:
        now = next(count)
        if now == n or (now > n and call.name in failure.then):
            raise OSError(failure.number, os.strerror(failure.number), str(call.path))

    return before


def _left_over(root: Path) -> list[str]:
    """Temporary files and empty folders."""
    tree = read_tree(root)
    parents = {os.path.dirname(name) for name in tree}
    return [name for name, data in tree.items() if name.endswith(".part") or (data is None and name not in parents)]


def try_failure(place: Place, failure: Failure, n: int, whole: dict) -> str | None:
    """What is wrong after a failure at the n-th call, and after the same command without one."""
    what = f"{errno.errorcode[failure.number]} at call {n}"
    write_tree(place.first, place.root)
    with watched(place.root, _fail(failure, n)):
        ended = place.run()
    if ended.code != EXIT_CODE or "Traceback" in ended.message:
        return f"{place.kind.name}: {what}: exit code {ended.code}: {ended.message.strip()[-300:]}"
    # Where nothing can be deleted, or the deletion itself has failed, temporary files stay until the next command.
    if "unlink" not in (*failure.then, *failure.at) and (left := _left_over(place.root)):
        return f"{place.kind.name}: {what}: left over: {', '.join(left)}"
    return place.problem(place.run(), whole, f"after {what}")


def errors_of(kind: Kind, root: Path, failures: list[Failure], every: int = 1) -> list[Part]:
    """The parts of one kind of run.

    Args:
        kind: the kind.
        root: a folder that does not exist.
        failures: all of these are tried on the kind `WHOLE`, and one after the other on other kinds.
        every: a failure is tried at every call, or at one in so many.
    """
    with tiny():
        place, calls = Place(kind, root), []
        with watched(place.root, calls.append):
            place.run()
        whole, found = results(place.out), []
        for n in range(1, len(calls) + 1, every):
            possible = [failure for failure in failures if calls[n - 1].name in failure.at]
            for failure in possible if kind.name == WHOLE else possible[n % len(possible) :][:1]:
                name = f"{errno.errorcode[failure.number]} at a call, then the same command"
                found.append(part(name, [try_failure(place, failure, n, whole)]))
        return together(found)


def parts(quick: bool) -> Iterator[Part]:
    """All failures; quick: two of them at a few calls, in this process."""
    return all_or_few(quick, _tasks, lambda root: errors_of(BY_NAME[WHOLE], root, FAILURES[:2], every=20))


def _tasks(root):
    """The kind `WHOLE` with one failure in each task, then the others."""
    tasks = [(WHOLE, [failure]) for failure in FAILURES] + [(name, FAILURES) for name in OTHERS]
    for n, (name, failures) in enumerate(tasks):
        yield functools.partial(errors_of, BY_NAME[name], root / str(n), failures)

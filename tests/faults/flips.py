"""Changed files: one flipped bit in every byte of every file of a run, and every shorter length."""

import contextlib
import copy
import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from faults import crash
from faults.disk import Tree, write_tree
from faults.kinds import BY_NAME, Kind, tiny
from faults.part import Part, part, together
from faults.processes import each
from seqjax import Error, Run, Runs
from seqjax.plugin import registry
from seqjax.runs import begin, checkpoint, execute, folder
from seqjax.sweeps.index import INDEX

EXIT_CODE = 4
EVERY_BYTE = 20_000
"""The size in bytes up to which each byte of a file is changed. Of a larger file: each of the first bytes of this
number, and one in `STRIDE` of the others."""
STRIDE = 97
ALL_BITS = 1_000
"""The size in bytes up to which each bit is flipped; in larger files one bit of each byte."""
TORN = "last line is incomplete"


class Held(NamedTuple):
    """A folder whose files are changed.

    Args:
        name: what it is.
        tree: its files.
        names: the files that are changed.
        read: reads what is there, as a command does; an `Error` if something is wrong. None: nothing was read of it.
        finish: what is wrong with the results if the change is not noticed; None: a change that is not noticed is wrong
            in itself.
    """

    name: str
    tree: Tree
    names: list[str]
    read: Callable[[Path], Any]
    finish: Callable[[], str | None] | None = None


def changes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What was done to the bytes of a file -> the changed bytes."""
    places = [*range(min(len(data), EVERY_BYTE)), *range(EVERY_BYTE, len(data), STRIDE)]
    for at in places:
        for bit in range(8) if len(data) <= ALL_BITS else [at % 8]:
            yield f"bit {bit} of byte {at} flipped", data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    for length in places:
        yield f"cut to {length} bytes", data[:length]


def try_file(held: Held, root: Path, name: str, every: int = 1) -> Part:
    """All changes of one file."""
    write_tree(held.tree, root)
    data, found = held.tree[name], []
    for n, (what, changed) in enumerate(changes(data)):
        if n % every:
            continue
        (root / name).write_bytes(changed)
        problem = _problem(held, root, name)
        found.append(problem and f"{held.name}: {name}: {what}: {problem}")
    inner = name.removeprefix("run/")
    return part(f"changed {inner.partition('/')[0]}", found)


def _problem(held, root, name):
    """What is wrong with how a change was taken; None: nothing."""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            held.read(root)
    except Error as fault:
        if fault.exit_code != EXIT_CODE:
            return f"exit code {fault.exit_code}: {fault}"
        return None if os.path.basename(name) in str(fault) else f"the message does not name the file: {fault}"
    except Exception as fault:
        return f"a traceback: {fault!r}"
    if held.finish is None:
        return "silent"
    problem = held.finish()
    said = any(TORN in str(warning.message) for warning in warned)
    write_tree(held.tree, root)
    return problem and f"{'said' if said else 'silent'}: {problem}"


class _Read(BaseException):
    """Ends a command when it has read everything and is about to write."""


def _stop(*args):
    raise _Read


def _finished(place: crash.Place, states: crash.States) -> Held:
    """The end of a run."""
    tree = states.kills[-1]

    def read(root):
        run = Run.open(root / "run")
        if run.experiment.keep == "best":
            Run.open(root / "run", "best")
        # With more epochs, it goes on from its last state.
        checkpoint.newest(root / "run")

    return Held(f"finished, {place.kind.name}", tree, _files(tree), read)


def _unfinished(place: crash.Place, states: crash.States) -> Held:
    """A run that was killed after the row of an epoch, and before the checkpoint of it."""
    tree = max(filter(_is_unfinished, states.kills), key=_rows_ahead)
    write_tree(tree, place.root)
    ready = _ready(place)

    def read(root):
        run, fit = ready
        begin.ended_run(run.experiment, run.path)
        with mock.patch.object(begin, "remove_results", _stop), contextlib.suppress(_Read):
            begin.open_folder(copy.copy(run), fit)

    def finish():
        return place.problem(place.run(), states.whole, "finished")

    older = sorted(name for name in tree if "checkpoints/" in name)[0]
    names = [name for name in _files(tree) if name != older]
    return Held(f"unfinished, {place.kind.name}", tree, names, read, finish)


def _older_checkpoint(held: Held) -> Held:
    """The same without the newest checkpoint, so that the older one is read."""
    older, newest = sorted(name for name in held.tree if "checkpoints/" in name)
    tree = {name: data for name, data in held.tree.items() if name != newest}
    return held._replace(name=f"{held.name}, newest checkpoint deleted", tree=tree, names=[older])


def _sweep(place: crash.Place, states: crash.States) -> Held:
    tree = states.kills[-1]
    return Held(f"finished, {place.kind.name}", tree, [f"run/{INDEX}"], lambda root: Runs.open(root / "run"))


def _ready(place):
    """The run and its fit, as a command has them when it opens the folder."""
    found = []

    def stop(run, fit):
        found.append((run, fit))
        raise _Read

    with mock.patch.object(execute, "open_folder", stop), contextlib.suppress(_Read):
        place.run()
    return found[0]


def _files(tree):
    """The files of a run but its lock, which only people read."""
    return [name for name, data in tree.items() if data is not None and os.path.basename(name) != folder.LOCK]


def _is_unfinished(tree):
    states = [name for name in tree if "checkpoints/" in name]
    parts = [name for name in tree if name.endswith(".part")]
    return f"run/{folder.PARAMS}" not in tree and len(states) == 2 and not parts


def _rows_ahead(tree):
    """The number of rows after the newest checkpoint; of several states with as many, the one with more rows."""
    newest = max(name for name in tree if "checkpoints/" in name)
    rows = tree[f"run/{folder.METRICS}"].count(b"\n")
    return rows - checkpoint.decode(tree[newest]).progress.epochs_done, rows


SPECIAL = {
    "keep best, stop after": (None, 6),
    "local plugin": ("plugins/", 1),
    "data in memory": ("data.safetensors", 1),
    "diverges": (folder.DIVERGED, 1),
    "ended by a callback": (folder.STOPPED, 1),
    "sweep of two": (INDEX, 1),
}
"""Kind of run -> a part of the names of the files that are changed (None: all files), and among how many tasks they are
divided."""


def flips_of(
    kind: Kind, root: Path, every: int = 1, only: str | None = None, share: tuple[int, int] = (0, 1)
) -> list[Part]:
    """The parts of one kind of run.

    Args:
        kind: the kind.
        root: a folder that does not exist.
        every: each change is tried, or one in so many.
        only: a part of the names of the files that are changed; None: all files.
        share: (i, n): the files i, i + n, i + 2 n, ... of these.
    """
    with tiny():
        place = crash.Place(kind, root)
        states = crash.record(place)
        if kind.name == "local plugin":
            registry.load_file(str(place.data / "halves.py"))
        if kind.name == "sweep of two":
            cases = [_sweep(place, states)]
        else:
            cases = [_finished(place, states)]
            if any(map(_is_unfinished, states.kills)):
                unfinished = _unfinished(place, states)
                cases += [unfinished, _older_checkpoint(unfinished)]
        chosen = [(case, name) for case in cases for name in sorted(case.names) if only is None or only in name]
        return together([try_file(case, place.root, name, every) for case, name in chosen[share[0] :: share[1]]])


def parts(quick: bool) -> Iterator[Part]:
    """All changes; quick: some of them, in this process."""
    root = Path(tempfile.mkdtemp())
    try:
        if quick:
            yield from flips_of(BY_NAME["rnn"], root / "quick", every=500)
            return
        yield from together([found for of_kind in each(_tasks(root)) for found in of_kind])
    finally:
        shutil.rmtree(root)


def _tasks(root):
    for n, (name, (only, shares)) in enumerate(SPECIAL.items()):
        for i in range(shares):
            yield functools.partial(flips_of, BY_NAME[name], root / f"{n}-{i}", only=only, share=(i, shares))

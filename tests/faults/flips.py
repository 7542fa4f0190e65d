"""Changed files: one flipped bit in every byte of every file of a run, and every shorter length."""

import contextlib
import copy
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from faults import crash
from faults.disk import Tree, write_tree
from faults.kinds import BY_NAME, Kind, tiny
from faults.part import Part, part, parts_of_tasks, together
from seqjax import Error, Run, Runs
from seqjax.plugin import registry
from seqjax.runs import execute
from seqjax.runs.files import checkpoint, folder, store

EXIT_CODE = 4
EVERY_BYTE = 20_000
"""The size in bytes up to which each byte of a file is changed. Of a larger file: each of the first bytes of this
number, and one in `STRIDE` of the others."""
STRIDE = 97
ALL_BITS = 1_000
"""The size in bytes up to which each bit is flipped; in larger files one bit of each byte."""


class Held(NamedTuple):
    """A folder whose files are changed.

    Args:
        name: what it is.
        tree: its files.
        names: the files that are changed.
        read: reads what is there, as a command does; an `Error` if something is wrong.
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


def try_file(held: Held, root: Path, name: str, every: int = 1) -> list[Part]:
    """All changes of one file. Those that are not noticed, and change no result, are counted in a part of their own."""
    write_tree(held.tree, root)
    data, found, unnoticed = held.tree[name], [], []
    for n, (what, changed) in enumerate(changes(data or b"")):
        if n % every:
            continue
        (root / name).write_bytes(changed)
        is_noticed, problem = _outcome(held, root, name)
        (found if is_noticed else unnoticed).append(problem and f"{held.name}: {name}: {what}: {problem}")
    inner = name.removeprefix("run/").partition("/")[0]
    harmless = [part(f"changed {inner} of an unfinished run, not noticed: same bits", unnoticed)] * bool(unnoticed)
    return [part(f"changed {inner}", found), *harmless]


def _outcome(held, root, name):
    """Whether a change is noticed, and what is wrong with how it was taken."""
    try:
        held.read(root)
    except Error as fault:
        if fault.exit_code != EXIT_CODE:
            return True, f"exit code {fault.exit_code}: {fault}"
        return True, None if os.path.basename(name) in str(fault) else f"the message does not name the file: {fault}"
    except Exception as fault:
        return True, f"a traceback: {fault!r}"
    if held.finish is None:
        return True, "silent"
    problem = held.finish()
    write_tree(held.tree, root)
    return False, problem and f"silent: {problem}"


class _Read(BaseException):
    """Ends a command when it has read everything and is about to write."""


def _finished(place: crash.Place, states: crash.States) -> Held:
    """The end of a run."""
    tree = states.kills[-1]

    def read(root):
        run = Run.open(root / "run")
        if run.experiment.keep == "best":
            Run.open(root / "run", "best")

    return Held(f"finished, {place.kind.name}", tree, _files(tree), read)


def _unfinished(place: crash.Place, states: crash.States) -> list[Held]:
    """A run that was killed between the row of an epoch and its checkpoint; also without its newest checkpoint."""
    tree = max(filter(_is_unfinished, states.kills), key=_rows_ahead)
    write_tree(tree, place.root)
    ready = _ready(place)

    def read(root):
        run, fit = ready
        run = copy.copy(run)
        kept = execute._take_up(run.path, run, store.read_run(run.path))
        with mock.patch.object(store, "go_on", side_effect=_Read), contextlib.suppress(_Read):
            execute.open_folder(run.path, run, fit, kept)

    def finish():
        return place.problem(place.run(), states.whole, "finished")

    older, newest = sorted(name for name in tree if "checkpoints/" in name)
    held = Held(f"unfinished, {place.kind.name}", tree, _files(tree), read, finish)
    without = {name: data for name, data in tree.items() if name != newest}
    return [held, held._replace(name=f"{held.name}, newest checkpoint deleted", tree=without, names=[older])]


def _sweep(place: crash.Place, states: crash.States) -> Held:
    tree = states.kills[-1]
    return Held(f"finished, {place.kind.name}", tree, [f"run/{folder.INDEX}"], lambda root: Runs.open(root / "run"))


def _ready(place):
    """The run and its fit, as a command has them when it opens the folder."""
    found = []

    def stop(path, run, fit, kept):
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
    "keep best, stop after": ("", 6),
    "local plugin": ("plugins/", 1),
    "data in memory": ("data.safetensors", 1),
    "diverges": (folder.MANIFEST, 1),
    "ended by a callback": (folder.MANIFEST, 1),
    "sweep of two": (folder.INDEX, 1),
}
"""Kind of run -> a part of the names of the files that are changed, and among how many tasks they are divided."""


def flips_of(kind: Kind, root: Path, every: int = 1, only: str = "", share: tuple[int, int] = (0, 1)) -> list[Part]:
    """The parts of one kind of run.

    Args:
        kind: the kind.
        root: a folder that does not exist.
        every: each change is tried, or one in so many.
        only: a part of the names of the files that are changed.
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
                cases += _unfinished(place, states)
        chosen = [(case, name) for case in cases for name in sorted(case.names) if only in name]
        tried = [try_file(case, place.root, name, every) for case, name in chosen[share[0] :: share[1]]]
        return together(one for parts in tried for one in parts)


def parts(quick: bool) -> Iterator[Part]:
    """All changes; quick: some of them, in this process."""
    if not quick:
        yield from parts_of_tasks(_tasks)
        return
    with tempfile.TemporaryDirectory() as root:
        yield from flips_of(BY_NAME["rnn"], Path(root, "quick"), every=500)


def _tasks(root):
    for n, (name, (only, shares)) in enumerate(SPECIAL.items()):
        for i in range(shares):
            yield functools.partial(flips_of, BY_NAME[name], root / f"{n}-{i}", only=only, share=(i, shares))

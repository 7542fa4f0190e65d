"""Changed files: one flipped bit in every byte of every file of a run, and every shorter length."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from faults import crash
from faults.disk import Tree, write_tree
from faults.kinds import BY_NAME, Kind, tiny
from faults.part import Part, all_or_few, part, together
from seqjax.runs.files import checkpoint, folder

EXIT_CODE = 4
ALL_BITS = 1_000
"""The size in bytes up to which each bit is flipped; in larger files one bit of each byte."""
STRIDE = 7
"""In a file with arrays, one in so many bytes is changed: its hash is all that is looked at."""


class Held(NamedTuple):
    """A folder whose files are changed.

    Args:
        name: what it is.
        tree: its files.
        names: the files that are changed.
        has_ended: whether a change that is not noticed is wrong in itself. Of a run in training, the rows after the
            last checkpoint are trained again, so that the results have to be the same.
    """

    name: str
    tree: Tree
    names: list[str]
    has_ended: bool = True


def changes(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """What was done to the bytes of a file -> the changed bytes."""
    for at in range(0, len(data), STRIDE if name.endswith(".safetensors") else 1):
        for bit in range(8) if len(data) <= ALL_BITS else [at % 8]:
            yield f"bit {bit} of byte {at} flipped", data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        yield f"cut to {at} bytes", data[:at]


def try_file(place: crash.Place, whole: dict[str, Any], held: Held, name: str, every: int = 1) -> list[Part]:
    """All changes of one file. Those that are not noticed, and change no result, are counted in a part of their own."""
    write_tree(held.tree, place.root)
    data, found, unnoticed = held.tree[name], [], []
    for n, (what, changed) in enumerate(changes(name, data or b"")):
        if n % every:
            continue
        (place.root / name).write_bytes(changed)
        ended, problem = place.run(), None
        if ended.code == EXIT_CODE:
            is_named = os.path.basename(name) in ended.message
            problem = None if is_named else f"the message does not name the file: {ended.message}"
        elif held.has_ended or ended.code != place.kind.code:
            problem = f"silent, exit code {ended.code}: {ended.message[-300:]}"
        else:
            problem = place.problem(ended, whole, "silent")
            write_tree(held.tree, place.root)
        is_noticed = held.has_ended or ended.code == EXIT_CODE
        (found if is_noticed else unnoticed).append(problem and f"{held.name}: {name}: {what}: {problem}")
    inner = name.removeprefix("run/").partition("/")[0]
    harmless = [part(f"changed {inner} of a run in training, not noticed: same bits", unnoticed)] * bool(unnoticed)
    return [part(f"changed {inner}", found), *harmless]


def _held(kind: Kind, states: crash.States) -> Iterator[Held]:
    """The end of a run, and a moment of its training: after the row of an epoch, and before its checkpoint."""
    tree = states.kills[-1]
    yield Held(f"finished, {kind.name}", tree, _files(tree))
    if not (unfinished := [*filter(_is_unfinished, states.kills)]):
        return
    tree = max(unfinished, key=_rows_ahead)
    older, newest = sorted(name for name in tree if "checkpoints/" in name)
    yield Held(f"unfinished, {kind.name}", tree, _files(tree), has_ended=False)
    without = {name: data for name, data in tree.items() if name != newest}
    yield Held(f"unfinished, {kind.name}, newest checkpoint deleted", without, [older], has_ended=False)


def _files(tree):
    """The files of a run but its lock, which only people read."""
    return [name for name, data in tree.items() if data is not None and os.path.basename(name) != folder.LOCK]


def _is_unfinished(tree):
    states = [name for name in tree if name.startswith(f"run/{folder.CHECKPOINTS}/")]  # not those of a sweep
    parts = [name for name in tree if name.endswith(".part")]
    return f"run/{folder.PARAMS}" not in tree and len(states) == 2 and not parts


def _rows_ahead(tree):
    """The number of rows after the newest checkpoint; of several states with as many, the one with more rows."""
    newest = max(name for name in tree if "checkpoints/" in name)
    rows = tree[f"run/{folder.METRICS}"].count(b"\n")
    return rows - checkpoint.decode(tree[newest]).rows.number, rows


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
        chosen = [(held, name) for held in _held(kind, states) for name in sorted(held.names) if only in name]
        tried = [try_file(place, states.whole, held, name, every) for held, name in chosen[share[0] :: share[1]]]
        return together(one for parts in tried for one in parts)


def parts(quick: bool) -> Iterator[Part]:
    """All changes; quick: some of them, in this process."""
    return all_or_few(quick, _tasks, lambda root: flips_of(BY_NAME["rnn"], root, every=1000))


def _tasks(root):
    for n, (name, (only, shares)) in enumerate(SPECIAL.items()):
        for i in range(shares):
            yield functools.partial(flips_of, BY_NAME[name], root / f"{n}-{i}", only=only, share=(i, shares))

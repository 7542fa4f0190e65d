"""The states of a folder that a kill or a power cut can leave.

A kill leaves what the calls before it have made. A power cut leaves less, by this model of POSIX: after a call,

- each name of a file in a folder is as it was at the last fsync of this folder, or as it is now;
- the content of each file is as it was at the last fsync of this file (empty, if there was none), or as it is now, or
  what was written since is cut in half, or zeros of its length;
- a new folder, whose own folder was not synced, is there or not, with all that is in it;
- a rename changes both names at once.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from faults.calls import Call
from seqjax.runs.files.folder import LOCK

Tree = dict[str, bytes | None]
"""Path of a file -> its bytes; path of a folder -> None."""

MOST_CHANGES = 4
"""The number of unsynced changes up to which all combinations of old and new are states. With more: all old, all new,
one old, one new."""


def read_tree(root: Path) -> Tree:
    """The folders and files below a folder."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        found |= {str(here / name): None for name in folders}
        found |= {str(here / name): (Path(folder) / name).read_bytes() for name in files}
    return found


def write_tree(tree: Tree, root: Path) -> None:
    """Makes a folder anew with these folders and files."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name in sorted(tree):
        data = tree[name]
        if data is None:
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)


def key(tree: Tree) -> tuple:
    """Equal for equal trees."""
    return tuple(sorted(tree.items(), key=lambda item: item[0]))


class File:
    """A file, whatever its name: its content now, and at the last fsync."""

    def __init__(self, now: bytes, synced: bytes):
        self.now, self.synced = now, synced

    def contents(self) -> list[bytes]:
        """What a power cut may leave of it, what is there now first."""
        start = len(self.synced) if self.now.startswith(self.synced) else 0
        new = len(self.now) - start
        torn = [self.now[: start + new // 2], self.now[:start] + bytes(new)] if new > 0 else []
        return list(dict.fromkeys([self.now, self.synced, *torn]))


Listing = dict[str, File | None]
"""Name in a folder -> file; None: a folder."""


class Disk:
    """Follows the calls on a folder, and gives the states that a power cut can leave.

    Args:
        root: the folder. What is there is on the disk.
    """

    def __init__(self, root: Path):
        self.root = root
        self.files: dict[int, File] = {}
        self.now: dict[str, Listing] = {}
        self.look()
        for file in self.files.values():
            file.synced = file.now
        self.synced = {folder: dict(listing) for folder, listing in self.now.items()}

    def look(self) -> None:
        """Reads what is there now."""
        self.now = {}
        for folder, folders, names in os.walk(self.root):
            listing: Listing = dict.fromkeys(folders)
            for name in names:
                path = Path(folder, name)
                inode, data = path.stat().st_ino, path.read_bytes()
                file = self.files.setdefault(inode, File(data, b""))
                file.now = data
                listing[name] = file
            self.now[str(Path(folder).relative_to(self.root))] = listing

    def before(self, call: Call) -> None:
        """Notes a call that is about to be made. The number of a file that goes may be given to another one."""
        if call.name in ("replace", "unlink") and call.path.exists() and call.path.stat().st_nlink == 1:
            self.files.pop(call.path.stat().st_ino, None)

    def after(self, call: Call) -> None:
        """Notes a call that was made."""
        if call.name != "fsync":
            return
        self.look()
        if call.path.is_dir():
            folder = str(call.path.relative_to(self.root))
            self.synced[folder] = dict(self.now[folder])
        else:
            file = self.files[call.path.stat().st_ino]
            file.synced = file.now

    def states(self) -> Iterator[Tree]:
        """The states that a power cut can leave now; the first one is what is there."""
        self.look()
        names = [
            (folder, name)
            for folder, listing in self.now.items()
            for name in {**self._kept(folder), **listing}
            if self._is_file(folder, name) and self._kept(folder).get(name) is not listing.get(name)
        ]
        # Nothing reads the lock of a folder but people.
        files = {
            id(file): file
            for listing in [*self.now.values(), *self.synced.values()]
            for name, file in listing.items()
            if file is not None and file.now != file.synced and name != LOCK
        }
        changes = [*names, *files]
        for old in _combinations(changes):
            yield self._tree(old, {one: files[one].synced for one in old if one in files})
        for one, file in files.items():
            for data in file.contents():
                yield self._tree((), {one: data})
        for folder, listing in self.now.items():
            for name, file in listing.items():
                if file is None and name not in self._kept(folder):
                    yield self._tree([(folder, name)], {})

    def _kept(self, folder):
        """The names in a folder at its last fsync."""
        return self.synced.get(folder, {})

    def _is_file(self, folder, name):
        return any(listing.get(name) is not None for listing in (self._kept(folder), self.now[folder]))

    def _tree(self, old, contents, folder="."):
        """The tree in which these names are old, and files have these contents."""
        found: Tree = {}
        listing, kept = self.now[folder], self._kept(folder)
        for name in {**kept, **listing}:
            chosen = kept if (folder, name) in old else listing
            if name not in chosen:
                continue
            path, file = os.path.normpath(os.path.join(folder, name)), chosen[name]
            if file is None:
                found[path] = None
                found |= self._tree(old, contents, path)
            else:
                found[path] = contents.get(id(file), file.now)
        return found


def _combinations(changes):
    """Sets of the changes that are lost."""
    if len(changes) <= MOST_CHANGES:
        sizes = range(len(changes) + 1)
        return [set(lost) for size in sizes for lost in itertools.combinations(changes, size)]
    one = [{change} for change in changes]
    return [set(), set(changes), *one, *({*changes} - single for single in one)]

"""Kills and power cuts at every write-like call of each kind of run, and again while it is resumed."""

import functools
import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from faults.calls import Call, watched
from faults.children import in_child
from faults.disk import Disk, Tree, key, read_tree, write_tree
from faults.kinds import KINDS, Ended, Kind, carry_out, difference, make_data, results, tiny
from faults.part import Part, all_or_few, part

MOST_CUTS = 30
"""The number of states after a power cut that are tried for a kind of run, drawn from those that no kill leaves."""
PROCESSES = 1
"""The number of processes of a kind of run that are really killed, twice each."""


class States(NamedTuple):
    """The states that one run went through.

    Args:
        kills: what a kill before a call leaves.
        cuts: what a power cut leaves, where it is something else.
        calls: the number of write-like calls.
        whole: the results of the run.
    """

    kills: list[Tree]
    cuts: list[Tree]
    calls: int
    whole: dict[str, Any]


class Place:
    """A folder for the runs of one kind.

    Args:
        kind: the kind.
        root: a folder that does not exist.
        begin: calls the function that makes what is there before the command, here or in another process.
    """

    def __init__(self, kind: Kind, root: Path, begin: Callable[[Callable[[], None]], Any] = lambda work: work()):
        self.kind, self.data, self.root = kind, root / "data", root / "runs"
        self.out = self.root / "run"
        begin(self._begin)
        self.first = read_tree(self.root)

    def _begin(self):
        make_data(self.kind, self.data)
        self.root.mkdir()
        if self.kind.before is not None:
            ended = carry_out(self.kind.before, self.data, self.out)
            assert ended.code == 0, ended.message

    def run(self) -> Ended:
        """Carries out the command."""
        return carry_out(self.kind.command, self.data, self.out)

    def problem(self, ended: Ended, whole: dict[str, Any], what: str) -> str | None:
        """What is not as in a run without a fault."""
        if ended.code != self.kind.code:
            return f"{self.kind.name}: {what}: exit code {ended.code}: {ended.message.strip()[-300:]}"
        found = difference(self.out, whole)
        return found and f"{self.kind.name}: {what}: {found}"


def record(place: Place) -> States:
    """Carries out a command, and returns the states of its folder at each of its calls."""
    write_tree(place.first, place.root)
    disk, calls, kills, cuts = Disk(place.root), itertools.count(1), {}, {}

    def look(call=None):
        first, *others = disk.states()
        kills.setdefault(key(first), first)
        for state in others:
            cuts.setdefault(key(state), state)

    def before(call: Call) -> None:
        next(calls)
        look()
        disk.before(call)

    with watched(place.root, before, disk.after):
        ended = place.run()
    look()
    assert ended.code == place.kind.code, ended.message
    only = [state for name, state in cuts.items() if name not in kills]
    return States(list(kills.values()), only, next(calls) - 1, results(place.out))


class _Sample:
    """Keeps one of the states that a command goes through, each with the same probability."""

    def __init__(self, root: Path, draw: random.Random):
        self.root, self.draw, self.calls = root, draw, 0
        self.state: Tree | None = None

    def before(self, call: Call) -> None:
        self.calls += 1
        if self.draw.random() * self.calls < 1:
            self.state = read_tree(self.root)


def resume(place: Place, states: list[Tree], whole: dict[str, Any], what: str) -> list[Part]:
    """Resumes each state, kills it once more at one of the calls, and resumes what that leaves."""
    once, twice = [], []
    for n, state in enumerate(states):
        write_tree(state, place.root)
        sample = _Sample(place.root, random.Random(f"{place.kind.name} {what} {n}"))
        with watched(place.root, sample.before):
            ended = place.run()
        once.append(place.problem(ended, whole, f"{what}, state {n}"))
        if sample.state is not None:
            write_tree(sample.state, place.root)
            twice.append(place.problem(place.run(), whole, f"{what}, state {n}, killed at call {sample.calls}"))
    return [part(f"{what}, resumed", once), part(f"{what}, resumed, killed, resumed", twice)]


def states_of(kind: Kind, root: Path, most_kills: int | None = None, most_cuts: int = MOST_CUTS) -> list[Part]:
    """The parts of one kind of run, in one process.

    Args:
        kind: the kind.
        root: a folder that does not exist.
        most_kills: the number of states after a kill that are tried; None: all.
        most_cuts: the same for a power cut.
    """
    with tiny():
        place = Place(kind, root)
        found = record(place)
        draw = random.Random(kind.name)
        kills = found.kills if most_kills is None else draw.sample(found.kills, min(most_kills, len(found.kills)))
        cuts = draw.sample(found.cuts, min(most_cuts, len(found.cuts)))
        return [*resume(place, kills, found.whole, "SIGKILL"), *resume(place, cuts, found.whole, "power cut")]


def processes_of(kind: Kind, root: Path) -> list[Part]:
    """Processes that are really killed: each resumes what the one before has left."""
    with tiny():
        place = Place(kind, root, in_child)
        write_tree(place.first, place.root)
        ended = in_child(lambda: print(_run_killed(place, 0)))
        calls, whole = int(ended.out), results(place.out)
        draw, found = random.Random(kind.name), []
        for _ in range(PROCESSES):
            write_tree(place.first, place.root)
            at = draw.randrange(1, calls + 1), draw.randrange(1, calls + 1)
            for n in at:
                in_child(lambda n=n: _run_killed(place, n))
            ended = in_child(lambda at=at: print(place.problem(place.run(), whole, f"processes killed at calls {at}")))
            found.append(None if ended.out == "None\n" else ended.out + ended.err)
        return [part("SIGKILL of a process, twice, resumed", found)]


def _run_killed(place, n):
    """Carries out the command, and kills this process before the n-th call. Returns how many calls there were."""
    calls = itertools.count(1)

    def before(call):
        if next(calls) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(place.root, before):
        place.run()
    return next(calls) - 1


def parts(quick: bool) -> Iterator[Part]:
    """All kinds of run; quick: some states of the first one, in this process."""
    return all_or_few(quick, _tasks, lambda root: states_of(KINDS[0], root, 4, 4))


def _tasks(root):
    """All kinds of run. What the first tasks compile, the others find in the cache."""
    for n, (work, kind) in enumerate(itertools.product((states_of, processes_of), KINDS)):
        yield functools.partial(work, kind, root / str(n))

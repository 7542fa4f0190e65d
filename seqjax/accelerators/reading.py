"""Reads what XLA made of a program: kernels, loops, collectives, from the text of its optimised HLO."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from seqjax.errors import Error

NO_KERNEL = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "domain"),
    *("partition-id", "replica-id", "add-dependency", "while", "conditional", "call"),
}
"""Operations that launch nothing by themselves; neither do those that end in `-done`."""
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "collective-broadcast")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
# The types of the results, before the operation, have no space before a bracket.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .+? ([a-z][\w\-]*)\((.*)$")
_CALLED = re.compile(r"(?:to_apply|body|called_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRUE_FALSE = re.compile(r"true_computation=%?([\w.\-]+), false_computation=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Instruction(NamedTuple):
    """One line of a computation.

    Args:
        operation: such as `fusion`.
        rest: its operands and attributes.
    """

    operation: str
    rest: str


class Loop(NamedTuple):
    """A loop of a program.

    Args:
        trips: how often its body runs; None: it is found out while the program runs.
        kernels: the kernels of one iteration, those of inner loops multiplied by their trips.
        collectives: the collectives of one iteration, counted in the same way.
        backward: whether it is a part of a reverse pass.
        inner: the loops in its body.
    """

    trips: int | None
    kernels: int
    collectives: int
    backward: bool
    inner: tuple["Loop", ...]


class Part(NamedTuple):
    """What a computation launches, with all that it calls.

    Args:
        kernels: the kernels, those of a loop multiplied by its trips; of a loop without known trips, one iteration.
        loops: its outermost loops.
        collectives: the collectives, counted as the kernels.
    """

    kernels: int
    loops: tuple[Loop, ...]
    collectives: int


def _computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a program by name, and the name of the entry."""
    found: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[2]
            found[name] = []
            entry = name if header[1] else entry
        elif name and (match := _INSTRUCTION.match(line)):
            found[name].append(Instruction(*match.groups()))
    return found, entry


def read(text: str) -> Part:
    """What the program launches.

    Args:
        text: its optimised HLO, `compiled.as_text()`.
    """
    found, entry = _computations(text)
    if not entry:
        raise Error("this is not the text of a compiled program: pass jax.jit(f).lower(...).compile().as_text()")
    return _part(found, entry)


def _part(found: dict[str, list[Instruction]], name: str) -> Part:
    """What one computation launches, with those that it calls."""
    whole = Part(0, (), 0)
    for each in found[name]:
        if each.operation == "while":
            body, trips = _part(found, _called(each)), _TRIPS.search(each.rest)
            loop = Loop(
                int(trips[1]) if trips else None, body.kernels, body.collectives, "transpose(" in each.rest, body.loops
            )
            times = loop.trips or 1
            whole = _add(whole, Part(times * body.kernels, (loop,), times * body.collectives))
        elif each.operation == "conditional":
            branches = [_part(found, branch) for branch in _branches(each)]
            whole = _add(whole, max(branches, key=lambda branch: branch.kernels))
        elif each.operation == "call":
            whole = _add(whole, _part(found, _called(each)))
        elif each.operation not in NO_KERNEL and not each.operation.endswith("-done"):
            whole = _add(whole, Part(1, (), int(each.operation.removesuffix("-start") in COLLECTIVES)))
    return whole


def _add(one: Part, other: Part) -> Part:
    return Part(one.kernels + other.kernels, one.loops + other.loops, one.collectives + other.collectives)


def _called(instruction: Instruction) -> str:
    return _CALLED.search(instruction.rest)[1]  # type: ignore[index]


def _branches(instruction: Instruction) -> list[str]:
    listed = _BRANCHES.search(instruction.rest)
    names = listed[1].split(",") if listed else _TRUE_FALSE.search(instruction.rest).groups()  # type: ignore[union-attr]
    return [name.strip().lstrip("%") for name in names]


def faults(text: str, num_donated: int = 0) -> list[str]:
    """What no program of a training may have, in words; nothing if all is well.

    Args:
        text: the optimised HLO.
        num_donated: the number of arrays that are donated, whose memory the results are to take.
    """
    found = []
    if "f64[" in text:
        found.append("float64: a number of Python or numpy came in as float64")
    if calls := sorted({*re.findall(r'custom_call_target="([^"]*callback[^"]*)"', text)}):
        found.append(f"a callback on the host: {', '.join(calls)}")
    if moved := sorted({*re.findall(r" ((?:infeed|outfeed|send|recv)(?:-start)?)\(", text)}):
        found.append(f"a transfer to or from the host: {', '.join(moved)}")
    aliased = len(re.findall(r"(?:may|must)-alias", text.partition("\n")[0]))
    if aliased < num_donated:
        found.append(f"{num_donated - aliased} of {num_donated} donated arrays are copied")
    return found


def known(loops: tuple[Loop, ...]) -> bool:
    """Whether the trips of these loops, and of all inside of them, are known before the program runs."""
    return all(loop.trips is not None and known(loop.inner) for loop in loops)


def innermost(loops: tuple[Loop, ...]) -> Iterator[Loop]:
    """The loops without inner loops."""
    for loop in loops:
        yield from innermost(loop.inner) if loop.inner else (loop,)

"""What each module of this folder reports."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from faults.children import each


class Part(NamedTuple):
    """A row of the table of `make faults`.

    Args:
        what: what was tried, such as "SIGKILL, then resumed".
        tried: the number of cases.
        held: the number of cases in which what is promised was true.
        problems: one line for each of the others.
    """

    what: str
    tried: int
    held: int
    problems: list[str]


def part(what: str, found: list[str | None]) -> Part:
    """A part of one entry for each case: None if it held, else the problem."""
    problems = [one for one in found if one is not None]
    return Part(what, len(found), len(found) - len(problems), problems)


def together(parts: Iterable[Part]) -> list[Part]:
    """Parts of the same name as one, in the order in which the names come first."""
    found: dict[str, Part] = {}
    for what, *counts in parts:
        before = found.get(what, Part(what, 0, 0, []))
        found[what] = Part(what, *(a + b for a, b in zip(before[1:], counts, strict=True)))
    return list(found.values())


def all_or_few(
    quick: bool, tasks: Callable[[Path], Iterable[Callable[[], list[Part]]]], few: Callable[[Path], list[Part]]
) -> Iterator[Part]:
    """The parts of a module.

    Args:
        quick: whether to try a few cases, or all.
        tasks: makes functions for the folder in which they work. Each is called in a process of its own.
        few: tries a few cases in this process, in a folder that does not exist.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        yield from (
            few(root / "quick") if quick else together(Part(*one) for found in each(tasks(root)) for one in found)
        )


def control_character(printed: str) -> str:
    """What is around the first control character in a text that was printed; empty if there is none."""
    raw = [n for n, character in enumerate(printed) if not (character.isprintable() or character in "\n\t")]
    return repr(printed[max(0, raw[0] - 60) : raw[0] + 60]) if raw else ""

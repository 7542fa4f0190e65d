"""What each module of this folder reports."""

from typing import NamedTuple


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


def together(parts: list[Part]) -> list[Part]:
    """Parts of the same name as one, in the order in which the names come first."""
    found: dict[str, Part] = {}
    for one in parts:
        before = found.get(one.what, Part(one.what, 0, 0, []))
        found[one.what] = Part(
            one.what, before.tried + one.tried, before.held + one.held, before.problems + one.problems
        )
    return list(found.values())

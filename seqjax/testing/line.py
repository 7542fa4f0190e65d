"""`Check`, one check of a plugin, and `Line`, its result."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from seqjax.errors import Error
from seqjax.plugin.author import cause, mistake_of
from seqjax.plugin.base import Plugin
from seqjax.plugin.registry import name_of
from seqjax.report.table import Table
from seqjax.testing.compare import Failed, Skipped


class Found(NamedTuple):
    """The result of a check that passed.

    Args:
        error: the largest error; None: the check measures no error.
        note: on what the check was made, or its figures.
    """

    error: float | None = None
    note: str = ""


class Check(NamedTuple):
    """A check, which is one line of the table.

    Args:
        name: its name.
        function: plugin -> what was found; it raises `Failed` or `Skipped`.
        meaning: what it means if the check fails, and what to do.
        bound: the largest error that is allowed; None: the check measures no error.
    """

    name: str
    function: Callable[[Any], Found]
    meaning: str
    bound: float | None = None


class Line(NamedTuple):
    """The result of a check.

    Args:
        check: the check.
        error: the largest error; None: the check measures no error, or was not made.
        note: on what it was made, its figures, or why it was not made.
        fault: what failed; None: nothing.
        passed: "yes", "no" or "not made".
    """

    check: Check
    error: float | None
    note: str
    fault: str | None = None
    passed: str = "yes"


def run_check(plugin: Plugin, check: Check) -> Line:
    """The result of one check."""
    try:
        error, note = check.function(plugin)
    except Skipped as why:
        return Line(check, None, str(why), passed="not made")
    except Failed as fault:
        return Line(check, fault.error, "", str(fault), "no")
    except Error as fault:
        return Line(check, None, "", str(fault), "no")
    except (Exception, SystemExit) as fault:
        return Line(check, None, "", str(mistake_of(plugin, fault) or f"raises {cause(plugin, fault)}"), "no")
    return Line(check, error, note)


def as_table(lines: Sequence[Line]) -> Table:
    """The results as a table."""
    rows = [(line.check.name, line.passed, line.error, line.check.bound, line.note) for line in lines]
    return Table(("check", "passed", "worst error", "bound", "on"), rows)


def failure(plugin: Plugin, lines: Sequence[Line]) -> Error:
    """The error that names every failed check, and says once what several of them found."""
    failed = [line for line in lines if line.fault]
    lines_of: dict[str, list[Line]] = {}
    for line in failed:
        lines_of.setdefault(str(line.fault), []).append(line)
    problems = []
    for fault, same in lines_of.items():
        # If several checks found the same fault, the meaning of one of them does not apply. A fault of several lines
        # already says what to do.
        meaning = "" if "\n" in fault or len(same) > 1 else f"\n{same[0].check.meaning}"
        problems.append(f"{', '.join(line.check.name for line in same)}: {fault}{meaning}")
    head = f"{plugin.kind} {name_of(plugin)!r} fails {len(failed)} of {len(lines)} checks:"
    return Error(head, problems=problems)

"""`seqjax verify`: checks whether runs are still what they were."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seqjax.cli.flags import use_all_cores
from seqjax.cli.parser import Parser
from seqjax.errors import Error
from seqjax.terminal.shell import argument, program
from seqjax.terminal.show import show
from seqjax.terminal.stream import say

DESCRIPTION = """Check whether runs are still what they were: all files that their manifest lists, the files of the
plugins, the dataset, which is loaded again, and the versions of packages. Nothing is written. All faults of all runs
are printed. The exit code is 4 if a file, a plugin or the dataset has changed or is missing. Other versions and other
devices are printed, and are no fault."""


def main(argv: Sequence[str]) -> int:
    """Prints a table for each run."""
    parser = Parser(prog=f"{program()} verify", description=DESCRIPTION)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folders of runs and of sweeps")
    args = parser.read(argv)
    use_all_cores(None)

    from seqjax.report.table import Table
    from seqjax.runs.verify import DAMAGED, UNREADABLE, FileLine, verify
    from seqjax.sweeps.index import folders_to_verify

    damaged: dict[Path, int] = {}
    unread: list[Error] = []
    hashes: dict[str, str] = {}
    count = 0
    for given in args.runs:
        folders, fault = folders_to_verify(Path(given))
        unread += [fault] if fault else []
        for path in folders:
            lines = verify(path, hashes)
            faults = [line.state for line in lines if line.state in (*DAMAGED, UNREADABLE)]
            if faults:
                damaged[path] = 4 if {*faults} & {*DAMAGED} else 6
            count += 1
            verdict = f"{len(faults)} fault{'s' * (len(faults) != 1)}" if faults else "no fault"
            say(f"{path}: {verdict}")
            show(Table(FileLine._fields, lines))
            say("")
    if damaged or unread:
        raise _failure(count, damaged, unread)
    return 0


def _failure(count: int, damaged: Mapping[Path, int], unread: Sequence[Error]) -> Error:
    """The error that ends the command if not all runs are what they were; `damaged`: exit code by folder."""
    lines = []
    if damaged:
        lines = [
            f"runs with faults: {len(damaged)} of {count}: {' '.join(map(argument, damaged))}",
            "No file was touched. Restore the old files, or train in another folder",
        ]
    codes = [*damaged.values(), *(fault.exit_code for fault in unread)]
    code = 4 if 4 in codes else max(codes)
    return Error("\n".join([*lines, *map(str, unread)]), exit_code=code)

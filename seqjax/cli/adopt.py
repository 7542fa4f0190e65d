"""`seqjax adopt`: take the files of a run as they are."""

from collections.abc import Sequence
from pathlib import Path

from seqjax.cli.parser import Parser
from seqjax.errors import escape
from seqjax.terminal.shell import argument
from seqjax.terminal.stream import line

DESCRIPTION = """Take the files of a run as they are, after they were changed by hand or made by an earlier seqjax. The
run keeps the names of the files that were changed. Parameters that are damaged are not adopted."""


def main(argv: Sequence[str]) -> int:
    """Writes the manifest anew, and prints the names of the files that were changed."""
    parser = Parser(prog="seqjax adopt", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    path = Path(parser.read(argv).run)

    from seqjax.runs.adopt import adopt

    changed = adopt(path)
    if not changed:
        print(f"{escape(str(path))}: no file has changed")
        return 0
    line("adopted", ", ".join(changed))
    line("next", f"seqjax verify {argument(path)}")
    return 0

"""`seqjax check`: checks that a gradient strategy does what it claims."""

from collections.abc import Sequence

from seqjax.cli.flags import read_plugin, use_all_cores
from seqjax.cli.parser import Parser

DESCRIPTION = """Check that a gradient strategy does what it claims: in float64, against brute force, on three windows
that carry state and memory. Prints the largest error and its bound for each check. The exit code is 2 if a check fails.

A strategy from a file of your own: seqjax check gradient mine --load ./mine.py
Fields follow the name, each after a colon: seqjax check gradient artbp:length=8:alpha=3"""


def main(argv: Sequence[str]) -> int:
    """Prints the table of checks."""
    parser = Parser(prog="seqjax check", description=DESCRIPTION)
    parser.add_argument("kind", choices=["gradient"], help="the kind of plugin")
    parser.add_argument(
        "name", metavar="NAME", help="short name or full id; name:field=value sets a field, name:a=1:b=2 sets two"
    )
    args = parser.read(argv)
    strategy = read_plugin(args.kind, args.name)
    use_all_cores(2)  # one check compares two devices with one

    from seqjax.testing.gradient import as_table, failure, run_checks

    lines = run_checks(strategy)
    print(f"{args.name}: {strategy.claim}, of the {strategy.of}\n{as_table(lines)}")
    if any(line.fault for line in lines):
        raise failure(strategy, lines)
    return 0

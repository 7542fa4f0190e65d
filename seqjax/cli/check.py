"""`seqjax check`: checks that a plugin does what its kind asks."""

from collections.abc import Sequence

from seqjax.cli.flags import read_plugin, use_all_cores
from seqjax.cli.parser import Parser
from seqjax.terminal.shell import program
from seqjax.terminal.show import show
from seqjax.terminal.stream import say

DESCRIPTION = """Check that a plugin does what its kind asks. Prints a line for each check, with the largest error and
its bound where it measures one. The exit code is 2 if a check fails.

A plugin from a file of your own: {seqjax} check model mine --load ./mine.py
Fields follow the name, each after a colon: {seqjax} check gradient artbp:length=8:alpha=3"""


def main(argv: Sequence[str]) -> int:
    """Prints the table of checks."""
    parser = Parser(prog=f"{program()} check", description=DESCRIPTION.format(seqjax=program()))
    parser.add_kind_and_name("short name or full id; name:field=value sets a field, name:a=1:b=2 sets two")
    args = parser.read(argv)
    plugin = read_plugin(args.kind, args.name)
    use_all_cores(2)  # some checks compare two devices with one

    from seqjax.testing.checking import run_checks
    from seqjax.testing.line import as_table, failure

    lines = run_checks(plugin)
    say(f"{args.kind} {args.name}")
    show(as_table(lines))
    if any(line.fault for line in lines):
        raise failure(plugin, lines)
    return 0

"""`seqjax list`: lists the plugins, without importing them, or describes one."""

from collections.abc import Sequence

from seqjax.cli.describe import describe
from seqjax.cli.parser import Parser
from seqjax.errors import Error
from seqjax.extras import EXTRAS, command, is_installed
from seqjax.plugin import registry
from seqjax.terminal.shell import program

DESCRIPTION = """List the available plugins, or those of a kind. Given a kind and a name, describe this plugin: what it
does, its parameters with their defaults, its file, and BibTeX entries to cite it.

With --verbose, a list has the distribution, its version and the file of each. Then the plugins are imported, and what
is wrong is reported at the end: failed imports, several plugins of one name, and entry points in groups that seqjax
does not read."""


def main(argv: Sequence[str]) -> int:
    """Prints name, origin and first line of the docstring of each plugin, or all about one plugin."""
    parser = Parser(prog=f"{program()} list", description=DESCRIPTION)
    parser.add_kind_and_name("short name or full id of a plugin", nargs="?")
    parser.add_argument("-v", "--verbose", action="store_true", help="import the plugins, and report what is wrong")
    args = parser.read(argv)
    if args.name is not None:
        describe(registry.find(args.kind, args.name))
        return 0
    kinds = [args.kind] if args.kind else list(registry.GROUPS)
    listed = {kind: registry.entries(kind) for kind in kinds}
    width = max((len(entry.id) for entries in listed.values() for entry in entries), default=0)
    for kind, entries in listed.items():
        print(kind)
        for entry in entries:
            print(f"  {entry.id:{width}}  {entry.version:8} {registry.summary(entry)}".rstrip())
            if (extra := registry.extra_of(entry)) in EXTRAS and not is_installed(extra):
                print(f"  {'':{width}}  {'':8} not installed; type: {command(extra)}")
            if args.verbose:
                print(f"  {'':{width}}  {entry.target}, {entry.source}")
    problems = faults(listed) if args.verbose else []
    print("".join(f"\n{problem}" for problem in problems), end="\n" if problems else "")
    if args.verbose and not problems:
        print("\nall plugins can be imported, and all names are unique")
    print(f"\nparameters and defaults: {program()} list KIND NAME")
    return 0


def faults(listed: dict[str, list[registry.Entry]]) -> list[str]:
    """What is wrong with some plugins: failed imports, several of one name, groups that are not read."""
    problems = []
    for kind, entries in listed.items():
        for entry in entries:
            try:
                registry.load(entry)
            except Error as fault:
                problems.append(str(fault))
        problems += registry.clashes(kind)
    return [*problems, *registry.misplaced_groups()]

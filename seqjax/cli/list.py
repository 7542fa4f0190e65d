"""`seqjax list`: lists the plugins, without importing them."""

from collections.abc import Sequence

from seqjax.cli.parser import Parser
from seqjax.plugin import registry


def main(argv: Sequence[str]) -> int:
    """Prints name, origin and first line of the docstring of each plugin."""
    parser = Parser(prog="seqjax list", description="List the available plugins.")
    parser.add_argument("kind", nargs="?", help=f"one of {', '.join(registry.GROUPS)}")
    args = parser.read(argv)
    kinds = [args.kind] if args.kind else list(registry.GROUPS)
    found = {kind: registry.entries(kind) for kind in kinds}
    width = max((len(entry.id) for entries in found.values() for entry in entries), default=0)
    for kind, entries in found.items():
        print(kind)
        for entry in entries:
            print(f"  {entry.id:{width}}  {entry.version:8} {registry.summary(entry)}".rstrip())
    print("\nparameters and defaults: seqjax show KIND NAME")
    return 0

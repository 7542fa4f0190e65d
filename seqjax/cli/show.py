"""`seqjax show`: prints the documentation of one plugin."""

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from seqjax.cli.parser import Parser
from seqjax.errors import Error, nearest
from seqjax.plugin import config, registry
from seqjax.plugin.base import Plugin, fields_of
from seqjax.plugin.citing import bibtex_of
from seqjax.runs import settings
from seqjax.terminal.shell import program

DESCRIPTION = """Show what a plugin does and which parameters it has. The kind may be left out if plugins of only one
kind have the name: {seqjax} show rtrl"""


def main(argv: Sequence[str]) -> int:
    """Prints docs, parameters, origin, BibTeX entries and a TOML snippet."""
    parser = Parser(prog=f"{program()} show", description=DESCRIPTION.format(seqjax=program()))
    parser.add_kind_and_name("short name or full id", nargs="?")
    args = parser.read(argv)
    kind, name = (args.kind, args.name) if args.name else (_kind_of(args.kind), args.kind)
    entry = registry.find(kind, name)
    cls: Any = registry.load(entry)
    print(f"{entry.kind} {entry.id}\n\n{inspect.getdoc(cls)}\n\nparameters:")
    print("\n".join(field_lines(cls)) or "  none")
    if entry.kind == "dataset" and (levels := level_lines(cls)):
        print("\nlosses at these defaults:\n" + "\n".join(levels))
    print(f"\nsource        {entry.source}\ntarget        {entry.target}")
    print(f"distribution  {entry.distribution} {entry.version}".rstrip())
    if entries := bibtex_of(cls):
        print(f"\nto cite it:\n\n{entries}")
    if entry.kind in settings.KINDS:
        print(f"\nin a config file:\n\n{snippet(entry, cls)}")
    else:
        print(f"\nno config names it; on the command line: --{entry.kind} {entry.name}")
    return 0


def _kind_of(name: str) -> str:
    """The kind whose plugins have a name.

    Raises:
        Error: plugins of several kinds have it, or none has; the message says what to type.
    """
    kinds = list(dict.fromkeys(entry.kind for entry in registry.named(name)))
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        commands = "\n".join(f"  {program()} show {kind} {name}" for kind in kinds)
        raise Error(f"plugins of several kinds are called {name!r}; name the kind:\n{commands}")
    if name in registry.GROUPS:
        raise Error(f"{name!r} is a kind; its plugins are listed by: {program()} list {name}")
    others = [entry for kind in registry.GROUPS if (entry := registry.meant(kind, name))]
    every = [known for kind in registry.GROUPS for known in registry.names(kind)]
    hint = f"; did you mean {others[0].kind} {others[0].name}?" if others else nearest(name, every)
    raise Error(f"no plugin is called {name!r}{hint}\nall plugins are listed by: {program()} list")


def field_lines(cls: type, prefix: str = "", values: Mapping[str, Any] = {}) -> list[str]:
    """For each field its flag, type, range and default (or its value in `values`), and below them its docstring."""
    lines = []
    for field in fields_of(cls).values():
        value = values[field.name] if field.name in values else field.make_default()
        default = "required" if value is dataclasses.MISSING else f"default {_toml_value(value)}"
        lines.append(f"  {prefix}{field.name.replace('_', '-')}   {field.type}; {default}")
        lines += textwrap.wrap(field.doc, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def level_lines(cls: type[Plugin]) -> list[str]:
    """The lowest loss of a model, and of a constant prediction, if a dataset with its defaults knows them."""
    if any(field.required for field in fields_of(cls).values()):  # type: ignore[arg-type]
        return []
    dataset: Any = cls()
    unit = "squared error" if dataset.of_values else "nats"
    levels = {"floor": (dataset.floor, "the lowest of a model"), "chance": (dataset.chance, "of a constant prediction")}
    return [f"  {name:<8}{value:.4f} {unit}, {what}" for name, (value, what) in levels.items() if value is not None]


def snippet(entry: registry.Entry, cls: type) -> str:
    """The TOML table of a plugin with its fields at their defaults."""
    table: dict[str, Any] = {"plugin": entry.id}
    comments = []
    for field in fields_of(cls).values():
        value = field.make_default()
        if value is None or field.required:
            comments.append(f"# {field.name} = ...  {field.type}{', required' if field.required else ''}")
        else:
            table[field.name] = config.to_table(value) if isinstance(value, Plugin) else value
    head, plugin, *rest = config.to_toml({entry.kind: table}).splitlines()
    return "\n".join([head, plugin, *comments, *rest])


def _toml_value(value: object) -> str:
    if value is None or isinstance(value, Plugin):
        return str(value).lower() if value is None else str(value)
    return config.to_toml({"_": value}).strip().removeprefix("_ = ")

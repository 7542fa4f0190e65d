"""`describe`: what `seqjax list KIND NAME` prints of a plugin."""

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from seqjax.plugin import config, registry
from seqjax.plugin.base import Plugin, fields_of
from seqjax.plugin.citing import bibtex_of


def describe(entry: registry.Entry) -> None:
    """Prints the docstring of a plugin, its parameters, its origin and the BibTeX entries of what it cites."""
    cls: Any = registry.load(entry)
    print(f"{entry.kind} {entry.id}\n\n{inspect.getdoc(cls)}\n\nparameters:")
    print("\n".join(field_lines(cls)) or "  none")
    if entry.kind == "dataset" and (levels := level_lines(cls)):
        print("\nlosses at these defaults:\n" + "\n".join(levels))
    print(f"\nsource        {entry.source}\ntarget        {entry.target}")
    print(f"distribution  {entry.distribution} {entry.version}".rstrip())
    if entries := bibtex_of(cls):
        print(f"\nto cite it:\n\n{entries}")


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


def _toml_value(value: object) -> str:
    if value is None or isinstance(value, Plugin):
        return str(value).lower() if value is None else str(value)
    return config.to_toml({"_": value}).strip().removeprefix("_ = ")

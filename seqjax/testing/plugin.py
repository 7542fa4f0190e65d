"""Checks of every plugin, whatever its kind: its fields, its names, how it is compared."""

import copy
import importlib.metadata
import inspect
import sys
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import annotated_types
import jax
import jax.numpy as jnp

from seqjax.errors import Error
from seqjax.plugin import config, registry
from seqjax.plugin.base import Field, Plugin, fields_of, values_of
from seqjax.testing.compare import Failed, Skipped
from seqjax.testing.line import Check, Found
from seqjax.testing.process import in_another_process


def check_equal_instances(plugin: Plugin) -> Found:
    """Checks that a second instance with the same fields is equal, has the same hash, and causes no retrace."""
    other = _again(plugin)
    if other != plugin:
        raise Failed(f"{other!r:.200} is not equal to {plugin!r:.200}, which has the same fields")
    try:
        same = hash(other) == hash(plugin)
    except TypeError as fault:
        raise Failed(f"it has no hash: {fault}") from fault
    if not same:
        raise Failed("two instances with the same fields have different hashes")
    traces = []

    def traced(plugin, a):
        traces.append(plugin)
        return a

    compiled = jax.jit(traced, static_argnums=0)
    for instance in (plugin, other):
        compiled(instance, jnp.zeros(1))
    if len(traces) > 1:
        raise Failed(f"a function of it is traced {len(traces)} times for two equal instances")
    return Found()


def check_copy(plugin: Plugin) -> Found:
    """Checks that it can be copied as pickle does."""
    cls: Any = sys.modules.get(type(plugin).__module__)
    for part in type(plugin).__qualname__.split("."):
        cls = getattr(cls, part, None)
    if cls is not type(plugin):
        raise Failed(f"pickle does not find its class under {type(plugin).__module__}.{type(plugin).__qualname__}")
    if copy.deepcopy(plugin) != plugin:
        raise Failed("a copy, made as pickle makes it, is not equal to the plugin")
    return Found()


def check_toml(plugin: Plugin) -> Found:
    """Checks that its table, written as TOML and read again, gives an equal plugin."""
    text = config.to_toml({plugin.kind: _table(plugin)})
    again = config.from_table(plugin.kind, config.from_toml(text)[plugin.kind])
    if again != plugin:
        raise Failed(f"{plugin!r:.200} becomes {again!r:.200} when it is written to a config and read again")
    return Found()


def check_flags(plugin: Plugin) -> Found:
    """Checks that each field can be given on the command line."""
    for field in _fields(plugin).values():
        value = getattr(plugin, field.name)
        if isinstance(value, Plugin):
            continue
        text = ",".join(map(_text, value)) if isinstance(value, tuple) else _text(value)
        if value != () and (parsed := config.parse(field.hint, text)) != value:
            raise Failed(
                f"{field.name} = {value!r}, and the flag --{plugin.kind}.{field.name} {text!r} gives {parsed!r}"
            )
    return Found()


def check_fields(plugin: Plugin) -> Found:
    """Checks that a field refuses values of another type, or outside of its range."""
    fields = _fields(plugin)
    for field in fields.values():
        for wrong in (*_outside(field.hint), jnp.zeros(2)):
            try:
                type(plugin)(**values_of(plugin) | {field.name: wrong})
            except Error:
                continue
            shown = "an array" if isinstance(wrong, jax.Array) else f"{wrong!r}, outside of its range"
            raise Failed(f"the field {field.name} takes {shown}")
    return Found(note=f"{len(fields)} field{'s' * (len(fields) != 1)}")


def check_documented(plugin: Plugin) -> Found:
    """Checks that the class has a summary, and each field has a docstring."""
    doc = type(plugin).__dict__.get("__doc__") or ""
    if not inspect.cleandoc(doc).partition("\n")[0].strip() or doc.startswith(f"{type(plugin).__name__}("):
        raise Failed("the class has no docstring, whose first line is shown by seqjax list")
    without = [field.name for field in _fields(plugin).values() if not field.doc]
    if without:
        raise Failed(f"no docstring stands under the fields {', '.join(without)}")
    return Found()


def check_names(plugin: Plugin) -> Found:
    """Checks that each entry point of its class has the kind and the name under which the class is registered."""
    entry = _entry(plugin)
    points = [p for p in importlib.metadata.entry_points() if p.value == entry.target]
    for point in points:
        if (point.group, point.name) != (registry.GROUPS[plugin.kind], entry.name):
            raise Failed(
                f"the entry point {point.name!r} of the group {point.group!r} names {entry.target}, which is "
                f"registered as the {plugin.kind} {entry.name!r}; its group is {registry.GROUPS[plugin.kind]!r}"
            )
    return Found(note=entry.id)


def check_import(plugin: Plugin) -> Found:
    """Checks that importing the plugin starts no backend of JAX."""
    started = in_another_process(plugin, "backends")
    if started:
        raise Failed(f"importing its file starts the backend {', '.join(started)}")
    return Found()


CHECKS = (
    Check(
        "equal instances", check_equal_instances,
        "plugins are compared by their fields, so that a program that was compiled for one serves its equals: leave "
        "__eq__ and __hash__ to the dataclass, and store nothing but the fields",
    ),
    Check("can be copied", check_copy, "write the class at the top level of its file, where pickle can find it"),
    Check(
        "TOML and back", check_toml,
        "a config holds the fields as they are given: compute what follows from them in methods, not in __post_init__",
    ),
    Check(
        "command line and back", check_flags,
        "flags are read by the type of the field: avoid unions of str with numbers, and commas in tuples of strings",
    ),
    Check(
        "fields are checked", check_fields,
        "call super().__post_init__() where you override it, and write ranges as Annotated[float, Interval(gt=0)]",
    ),
    Check(
        "documented", check_documented,
        "the first line of the docstring is a summary; a docstring under each field says what the field is",
    ),
    Check(
        "entry point", check_names,
        'the name in [project.entry-points."seqjax.models"] is the name in @seqjax.register("model", name)',
    ),
    Check(
        "import starts no backend", check_import,
        "compute arrays in methods, not when the file is imported",
    ),
)  # fmt: skip
"""The checks of every plugin."""


def _fields(plugin: Any) -> dict[str, Field]:
    cls: Any = type(plugin)
    return fields_of(cls)


def _again(plugin: Plugin) -> Plugin:
    """Another instance with the same fields."""
    return type(plugin)(**values_of(plugin))


def _entry(plugin: Plugin) -> registry.Entry:
    try:
        return registry.entry_of(plugin)
    except Error as why:
        raise Skipped(str(why)) from why


def _table(plugin: Plugin) -> dict[str, Any]:
    try:
        return config.to_table(plugin)
    except Error as why:
        raise Skipped(str(why)) from why


def _text(value: Any) -> str:
    """A value as it is typed on the command line."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _outside(hint: Any) -> list[float]:
    """Values of a number's type that lie outside of its range; for a union, outside of the number's range."""
    if get_origin(hint) in (Union, UnionType):
        numbers = [part for part in get_args(hint) if get_origin(part) is Annotated]
        return _outside(numbers[0]) if len(numbers) == 1 else []
    if get_origin(hint) is not Annotated:
        return []
    number, *metadata = get_args(hint)
    if number not in (int, float):
        return []
    values: list[Any] = []
    for meta in metadata:
        # An Interval consists of these bounds, and each may also stand alone.
        for bound in meta if isinstance(meta, annotated_types.GroupedMetadata) else [meta]:
            match bound:
                case annotated_types.Gt(gt=value) | annotated_types.Lt(lt=value):
                    values.append(number(value))
                case annotated_types.Ge(ge=value):
                    values.append(number(value) - 1)
                case annotated_types.Le(le=value):
                    values.append(number(value) + 1)
    return values

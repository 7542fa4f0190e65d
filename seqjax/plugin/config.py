"""Converts nested dicts to plugins and back, for TOML, the command line and `create`.

A plugin is a table with its name under `plugin` and its fields beside it. All faults of a table are reported at once.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

import tomli_w

from seqjax.errors import LINES, Error, check_type
from seqjax.files import read_named
from seqjax.parse import LONGEST_TOML
from seqjax.parse import from_toml as parse_toml
from seqjax.plugin import registry
from seqjax.plugin.base import Plugin, faults, fields_of, make, members

IN_MEMORY = "in-memory"
"""The name in a config of data that were given in memory; a run keeps them beside its config."""
PYTHON_OBJECT = "python-object"
"""The name in a config of an object of Python that is no plugin, such as an optax transformation. A config cannot hold
it, and only says that there is one."""

Config = dict[str, Any]


def create(kind: str, name: str, /, **fields: Any) -> Any:
    """An instance of the plugin with this short name or full id.

    >>> import seqjax as sj
    >>> sj.create("gradient", "truncated", steps=8)
    Truncated(steps=8)

    Args:
        kind: such as `model`; `seqjax list` prints all kinds.
        name: such as `"rnn"` or `"seqjax/rnn"`.
        fields: its hyper-parameters.

    Raises:
        Error: unknown kind or name; a plugin that fails to import; unknown, missing or invalid fields, all at once.
    """
    try:
        return _build(registry.get(kind, name), fields)
    except Error as fault:
        if not fault.problems:
            raise
        raise Error(f"{kind} {name!r} cannot be made:", problems=fault.problems) from fault


def overlay(base: Config, over: Config) -> Config:
    """`base` updated by `over`: a table that names a plugin replaces the old table, any other changes its fields."""
    merged = dict(base)
    for key, value in over.items():
        below = base.get(key)
        changes = isinstance(value, Mapping) and "plugin" not in value and isinstance(below, Mapping)
        merged[key] = {**below, **value} if changes else value  # type: ignore[dict-item]
    return merged


def to_config(plugin: Any) -> Config:
    """The nested dict of an experiment or plugin: full ids, and all fields that are not None.

    An object of Python has a table with its name, and in a tuple a text with its name.
    """
    values = {f.name: getattr(plugin, f.name) for f in dataclasses.fields(plugin)}
    return {name: _entry(value) for name, value in values.items() if value is not None}


def _entry(value: Any) -> Any:
    """The value of a field as a config holds it."""
    if is_object(value):
        return {"plugin": PYTHON_OBJECT, "name": describe(value)}
    if isinstance(value, Plugin):
        return to_table(value)
    if isinstance(value, tuple):
        return [f"{PYTHON_OBJECT}:{describe(one)}" if is_object(one) else _entry(one) for one in value]
    return value


def is_object(value: Any) -> bool:
    """Whether the value of a field is an object of Python that a config cannot hold.

    It is a function, a named tuple such as an optax transformation, or a model that was read from another library.
    """
    if isinstance(value, Plugin):
        return getattr(value, "is_foreign", False)
    return callable(value) or hasattr(value, "_fields")


def names_object(value: Any) -> bool:
    """Whether the entry of a config only names an object of Python, or a tuple with one."""
    if isinstance(value, Mapping):
        return value.get("plugin") == PYTHON_OBJECT
    return isinstance(value, list) and any(str(one).startswith(f"{PYTHON_OBJECT}:") for one in value)


def short(entry: object) -> str:
    """The text of an entry of a config, without the prefix of a built-in plugin or of an object of Python."""
    if isinstance(entry, list | tuple):
        return "+".join(map(short, entry)) or "none"  # a comma separates the fields in the name of a variant
    return str(entry).removeprefix(f"{registry.BUILT_IN}/").removeprefix(f"{PYTHON_OBJECT}:")


def to_table(plugin: Plugin) -> Config:
    """The table of a plugin: its full id and its fields; for data in memory, their hash."""
    if getattr(plugin, "in_memory", False):
        return {"plugin": IN_MEMORY, "sha256": plugin.sha256}  # type: ignore[attr-defined]
    return {"plugin": registry.entry_of(plugin).id, **to_config(plugin)}


def flatten(table: Config, prefix: str = "") -> dict[str, object]:
    """A nested dict with dotted keys."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def to_toml(config: Config) -> str:
    """TOML with the scalars first, then a table for each plugin. It has no control characters but newlines and tabs.

    Raises:
        Error: the text would be longer than `from_toml` reads.
    """
    scalars = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    text = "".join(map(_printable, tomli_w.dumps({**scalars, **config})))
    if len(text) > LONGEST_TOML:
        sizes = {name: len(str(value)) for name, value in flatten(config).items()}
        raise Error(
            f"the config would have {len(text):,} characters, more than {LONGEST_TOML:,}; shorten its longest field, "
            f"{max(sizes, key=sizes.__getitem__)}"
        )
    return text


def _printable(character: str) -> str:
    """A character of a TOML text; one that a terminal might interpret, which only occurs in quotes, as an escape."""
    is_surrogate = "\ud800" <= character <= "\udfff"  # it cannot be written as TOML, which the caller notices
    if character.isprintable() or character in LINES or is_surrogate:
        return character
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"


def from_toml(text: str) -> Config:
    """The nested dict of a TOML text."""
    check_type("a config", text, str, "a text of TOML, such as the result of Experiment.to_toml()")
    try:
        return parse_toml(text)
    except ValueError as fault:
        raise Error(f"not valid TOML: {fault}") from fault


def decode_toml(data: bytes) -> Config:
    """The nested dict of the bytes of a TOML file."""
    return from_toml(data.decode("utf-8"))


def read_toml(path: str) -> Config:
    """The nested dict of a TOML file that the user named."""
    try:
        return decode_toml(read_named(path))
    except (OSError, ValueError) as fault:
        code = 6 if isinstance(fault, PermissionError) else 2
        reason = getattr(fault, "strerror", None) or fault
        raise Error(f"--config {path}: cannot be read: {reason}", exit_code=code) from fault


def parse_fields(cls: type, strings: Mapping[str, str]) -> Config:
    """Command-line strings as the values of a class's fields; see `parse`."""
    fields = fields_of(cls)
    return {name: parse(fields[name].hint, text) if name in fields else text for name, text in strings.items()}


def parse(hint: Any, text: str) -> Any:
    """The value that a command-line string stands for, by the field's type.

    Tuples split at commas; for `int | float` a string with `.` or `e` is a float. A text that cannot be read stays a
    string, which the builder then refuses.
    """
    options = members(hint)
    if any(option is type(None) for option in options) and text.lower() == "none":
        return None
    tuples = [option for option in options if typing.get_origin(option) is tuple]
    if tuples and ("," in text or len(tuples) == len(options)):
        args = typing.get_args(tuples[0])
        parts = [part.strip() for part in text.split(",") if part.strip()]
        hints = [args[0]] * len(parts) if args[-1] is Ellipsis else [*args, *[str] * len(parts)]
        return tuple(parse(h, part) for h, part in zip(hints, parts, strict=False))
    for option in options:
        if typing.get_origin(option) is Literal and text in map(str, typing.get_args(option)):
            return next(value for value in typing.get_args(option) if str(value) == text)
    for scalar, read in ((bool, _parse_bool), (int, int), (float, float)):
        if scalar in options:
            try:
                return read(text)
            except ValueError:
                continue
    return text


def _parse_bool(text: str) -> bool:
    values = {"true": True, "false": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def name_fault(kind: str, table: Any) -> str | None:
    """The fault of a plugin's name in a table, if there is one. Imports nothing."""
    if isinstance(table, Plugin):
        return None
    name = table.get("plugin") if isinstance(table, Mapping) else None
    if not isinstance(name, str):
        return f"must be a table that names its plugin: plugin = one of {', '.join(registry.names(kind))}"
    if (kind, name) == ("dataset", IN_MEMORY):
        return "was given in memory, and this text has only its hash: open the run, or pass its config.toml to --config"
    try:
        registry.find(kind, name)
    except Error as fault:
        return str(fault)
    return None


def from_table(kind: str, table: Any) -> Any:
    """The plugin of a table `{"plugin": name, field: value, ...}`; a plugin is returned as it is.

    Raises:
        Error: an unknown name; unknown, missing or invalid fields, all at once.
    """
    if isinstance(table, Plugin):
        return table
    if fault := name_fault(kind, table):
        raise Error(fault)
    fields = {key: value for key, value in table.items() if key != "plugin"}
    return _build(registry.get(kind, table["plugin"]), fields)


def _build(cls: type, fields: Config) -> Any:
    """An instance of a plugin class; tables among the fields are plugins too."""
    values, problems = dict(fields), []
    for name, field in fields_of(cls).items():
        kind = next((m.kind for m in members(field.hint) if isinstance(m, type) and issubclass(m, Plugin)), None)
        if kind and isinstance(fields.get(name), Mapping):
            try:
                values[name] = from_table(kind, fields[name])
            except Error as fault:
                problems += located(f"{name}:", fault)
                del values[name]
    if problems:
        raise Error(f"{cls.__name__} cannot be made:", problems=[*problems, *faults(cls, values, given=fields)])
    return make(cls, values)


def located(where: str, fault: Error) -> list[str]:
    """The problems of an error, each preceded by its place."""
    return [f"{where} {problem}" for problem in fault.problems or (str(fault),)]


def describe(plugin: Any, separator: str = " ") -> str:
    """A short text about a plugin: its name and the fields that are not at their defaults.

    With ":" between them, it is the text that the command line takes. An object of Python is shown by its own name,
    such as the name of a function, or by the name of its library.
    """
    if is_object(plugin) or not isinstance(plugin, Plugin):
        return str(
            getattr(plugin, "name", None)
            or getattr(plugin, "__name__", None)
            or type(plugin).__module__.partition(".")[0]
        )
    fields = [(field, getattr(plugin, name)) for name, field in fields_of(type(plugin)).items()]  # type: ignore[arg-type]
    as_flags = separator == ":"
    changed = [
        f"{field.name}={','.join(map(str, value)) if as_flags and isinstance(value, tuple) else value}"
        for field, value in fields
        if value != field.make_default()
    ]
    return separator.join([registry.name_of(plugin), *changed])

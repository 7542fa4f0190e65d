"""`Plugin`: a frozen dataclass whose fields are hyper-parameters that are checked."""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Container, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin

from seqjax.errors import Error, is_whole
from seqjax.plugin.other_names import nearest_field


class Plugin:
    """Base of every kind of plugin.

    A subclass is a frozen dataclass without arrays, so that it is hashable, comparable, printable and static under
    `jit`. Ranges are part of a field's type: `Annotated[float, Interval(gt=0, le=1)]`. A field has a type that TOML
    has: bool, int, float, str, Literal, tuples of these, another plugin, unions of these, and `T | None` with None as
    the default. The docstring under a field documents it.

    Raises:
        Error: a value of the wrong type or out of range; all fields are reported at once.
    """

    kind: ClassVar[str] = "plugin"
    cites: ClassVar[tuple[str, ...]] = ()
    """The works that the docstring cites, as keys of `references.bib` beside this file; `seqjax list` prints them."""
    also_called: ClassVar[tuple[str, ...]] = ()
    """Other names of the plugin, which errors about an unknown name suggest. The source has them as literal texts."""
    extra: ClassVar[str] = ""
    """The extra of seqjax that the plugin needs, such as "data"; none if empty. The source has it as a literal text."""
    bibtex: ClassVar[str] = ""
    """The BibTeX entries of cited works that are not in `references.bib`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for owner, name in ((base, name) for base in cls.__mro__[1:] for name in vars(base)):
            # `typing.final` sets the mark. A class that comes before, such as a mixin, must not replace the method.
            is_final = getattr(vars(owner)[name], "__final__", False)
            if is_final and not getattr(inspect.getattr_static(cls, name), "__final__", False):
                raise Error(
                    f"{cls.__name__}.{name}: {owner.__name__} does not let subclasses define {name}, on which its "
                    f"faster ways rely; define what help({owner.__name__}) names, or derive from another class"
                )
        # `dataclass`, which runs later, would suggest a default_factory, but no field can have such a type.
        for name, hint in inspect.get_annotations(cls).items():
            default = None if "ClassVar" in str(hint) else cls.__dict__.get(name)
            if isinstance(default, list | dict | set) or getattr(default, "shape", ()) != ():
                raise Error(
                    f"{cls.__name__}.{name} = {default!r:.60}: the default of a field cannot be a "
                    f"{type(default).__name__}; {ALLOWED}"
                )
            inherited = any("ClassVar" in str(inspect.get_annotations(base).get(name)) for base in cls.__mro__[1:])
            if inherited and "ClassVar" not in str(hint):
                raise Error(
                    f"{cls.__name__}.{name} is a class attribute, and with a type it would become a hyper-parameter: "
                    f"write {name} = {default!r:.60}"
                )

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        known = getattr(cls, "__dataclass_fields__", kwargs)
        if unknown := {name: value for name, value in kwargs.items() if name not in known}:
            # The TypeError of `__init__` would not say what was meant.
            raise Error(f"{cls.__name__} cannot be made:", problems=faults(cls, unknown, given=known))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        problems = []
        for field in fields_of(type(self)).values():  # type: ignore[arg-type]
            value, wrong = _check(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            problems += wrong
        if problems:
            raise Error(f"{type(self).__name__} cannot be made:", problems=problems)


ALLOWED = "a field holds a bool, number or text, or a tuple of these, such as `sizes: tuple[int, ...] = ()`"
"""What to write, for errors about fields of another type."""


COMPUTED = ("sampler", "model", "gradient", "optimizer")
"""The kinds of plugin whose numbers become entries or sizes of arrays, in which a whole number has 32 bits."""


MADE_BY = {
    "dataset": "Text(text), Series(values), Pairs(inputs, targets) or create('dataset', 'csv', path='x.csv')",
    "model": "create('model', 'gru'); from_flax(module) and from_equinox(module) return one with its parameters",
    "optimizer": "create('optimizer', 'adam') or optax.adam(0.001)",
}
"""Kind of plugin -> what to write, for errors about values that are not of this kind."""


class Field(NamedTuple):
    """One hyper-parameter of a plugin class.

    Args:
        name: its name.
        hint: its type, with its range.
        default: its default; `dataclasses.MISSING` if there is none.
        factory: makes its default; `dataclasses.MISSING` if there is none.
        doc: the docstring under it.
        adapter: the pydantic adapter that checks values; None: values are not checked.
        bits: a whole number is below 2^bits.
    """

    name: str
    hint: Any
    default: Any
    factory: Any
    doc: str
    adapter: Any
    bits: int = 63

    def make_default(self) -> Any:
        """The default; `dataclasses.MISSING` if a value is required."""
        return self.default if self.factory is dataclasses.MISSING else self.factory()

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING and self.factory is dataclasses.MISSING

    @property
    def type(self) -> str:
        """The type and its range in words, such as `float in (0, 1]`."""
        return type_in_words(self.hint)


@functools.cache
def fields_of(cls: type) -> dict[str, Field]:
    """The fields of a plugin class by name."""
    import pydantic

    hints = typing.get_type_hints(cls, include_extras=True)
    docs, bits = _field_docs(cls), 31 if getattr(cls, "kind", "") in COMPUTED else 63
    fields = {}
    for f in dataclasses.fields(cls):
        hint = hints[f.name]
        options = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        plain = tuple(option for option in options if not _is_object(option))
        union: Any = typing.Union[plain] if plain else None  # noqa: UP007
        adapter = union and pydantic.TypeAdapter(union, config=pydantic.ConfigDict(allow_inf_nan=False))
        fields[f.name] = Field(f.name, hint, f.default, f.default_factory, docs.get(f.name, ""), adapter, bits)
    return fields


def check_hints(cls: type) -> None:
    """Checks that the fields of a plugin class have types that TOML can hold.

    Raises:
        Error: a field has another type, or a type whose name is unknown.
    """
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as fault:
        raise Error(f"{cls.__name__}: the type of a field cannot be read: {fault}") from fault
    for field in dataclasses.fields(cls):
        wrong = [part for part in parts(hints[field.name]) if not _is_allowed(part)]
        if wrong:
            shown = getattr(wrong[0], "__name__", None) if isinstance(wrong[0], type) else str(wrong[0])
            raise Error(f"{cls.__name__}.{field.name}: no field can be of the type {shown}; {ALLOWED}")


def values_of(plugin: Any) -> dict[str, Any]:
    """The fields of a plugin: name -> value."""
    cls: Any = type(plugin)
    return {name: getattr(plugin, name) for name in fields_of(cls)}


def make(cls: type, values: Mapping[str, Any]) -> Any:
    """An instance of a plugin class from values by the names of its fields.

    Raises:
        Error: unknown, missing and invalid fields, all at once.
    """
    known = fields_of(cls)
    if values.keys() - known.keys() or any(field.required and field.name not in values for field in known.values()):
        raise Error(f"{cls.__name__} cannot be made:", problems=faults(cls, values))
    return cls(**values)


def faults(cls: type, values: Mapping[str, Any], given: Container[str] | None = None) -> list[str]:
    """The unknown, invalid and missing fields among values of a plugin class, one line each.

    Args:
        cls: the class.
        values: by the names of its fields.
        given: fields that are not reported as missing; None: the fields in `values`.
    """
    known, problems = fields_of(cls), []
    for name, value in values.items():
        if name in known:
            problems += _check(known[name], value)[1]
        else:
            fields = ", ".join(known) or "none"
            problems.append(f"{name}: {cls.__name__} has no such field{nearest_field(name, known)} (fields: {fields})")
    for field in known.values():
        if field.required and field.name not in (values if given is None else given):
            problems.append(f"{field.name}: missing; must be {field.type}")
    return problems


def type_in_words(hint: Any) -> str:
    """A type hint in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_in_words(args[0]) + "".join(_range(meta) for meta in args[1:])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_in_words(arg) for arg in args)
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        words = "strings" if args[0] is str else type_in_words(args[0])
        return "a tuple" if args[0] is Any else f"a tuple of {words}"
    if origin is tuple:
        return f"a tuple ({', '.join(map(type_in_words, args))})"
    if hint in (None, type(None)):
        return "none"
    if _is_plugin_class(hint):
        return f"an {hint.kind}" if hint.kind[0] in "aeiou" else f"a {hint.kind}"
    return {bool: "true or false", str: "a string", Any: "anything"}.get(hint, getattr(hint, "__name__", str(hint)))


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, stripped of their ranges; of any other hint, itself."""
    if get_origin(hint) is Annotated:
        return members(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(m for arg in get_args(hint) for m in members(arg))
    return (hint,)


def _check(field: Field, value: Any) -> tuple[Any, list[str]]:
    """The value as the field holds it, and its faults. Traced values are not checked."""
    value, options = _plain(value), members(field.hint)
    if _is_traced(value) or any(_is_object(option) and isinstance(value, option) for option in options):
        return value, []
    try:
        checked = field.adapter.validate_python(value, strict=True) if field.adapter else None
    except ValueError:
        checked = None
    if any(is_whole(part) and abs(part) >= 2**field.bits for part in (value if isinstance(value, tuple) else (value,))):
        return value, [f"{field.name} = {value!r:.80}: a whole number is below 2^{field.bits}"]
    # The whole number 1 means one entry. It must not become the share 1.0, which means all of them.
    became_share = type(value) is int and isinstance(checked, float) and int in options
    if became_share or (checked is None and not (value is None and type(None) in options)):
        return value, [f"{field.name} = {value!r:.80}: must be {field.type}{_made_by(options, value)}"]
    return checked, []


def _made_by(options: tuple[Any, ...], value: Any) -> str:
    """What to write for a field that takes a plugin, in place of this value; empty for another field."""
    classes = [option for option in options if _is_plugin_class(option)]
    kinds = [cls.kind for cls in classes]
    if not kinds:
        is_text = isinstance(value, str) and any(get_args(option) == (str, Ellipsis) for option in options)
        return f", such as ({value!r},)" if is_text else ""
    if _is_plugin_class(type(value)) and value.kind == kinds[0]:
        return f" of the class {classes[0].__name__}, and {type(value).__name__} is none"
    if isinstance(value, str) and re.fullmatch(r"[\w/-]+", value):
        return f", such as create({kinds[0]!r}, {value!r})"
    if _is_plugin_class(value) and value.kind == kinds[0]:
        return f", such as {value.__name__}()"
    return f", such as {MADE_BY.get(kinds[0], f'create({kinds[0]!r}, name)')}"


def parts(hint: Any) -> Iterator[Any]:
    """The types of which a field's type is made."""
    for member in members(hint):
        args = get_args(member) if get_origin(member) is tuple else ()
        yield from (part for arg in args if arg is not Ellipsis for part in parts(arg))
        if not args:
            yield member


def _is_allowed(hint: Any) -> bool:
    scalar = hint in (bool, int, float, str, None, type(None), tuple)
    return scalar or get_origin(hint) is Literal or _is_plugin_class(hint)


def _range(meta: Any) -> str:
    gt, ge, lt, le = (getattr(meta, bound, None) for bound in ("gt", "ge", "lt", "le"))
    if gt is ge is lt is le is None:
        return ""
    if lt is le is None:
        return f" > {gt}" if gt is not None else f" >= {ge}"
    low = f"({gt}" if gt is not None else f"[{ge}" if ge is not None else "(-inf"
    return f" in {low}, {lt})" if lt is not None else f" in {low}, {le}]"


def _plain(value: Any) -> Any:
    """Lists as tuples, numpy and jax scalars as Python's own. A NamedTuple is an object, and stays as it is."""
    if type(value) in (list, tuple):
        return tuple(_plain(v) for v in value)
    if not _is_traced(value) and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _is_traced(value: Any) -> bool:
    jax = sys.modules.get("jax")
    parts = value if isinstance(value, tuple) else (value,)
    return jax is not None and any(isinstance(part, jax.core.Tracer) for part in parts)


def _is_object(hint: Any) -> bool:
    """Whether values of this type are checked by `isinstance` alone: plugins, and objects that no TOML can hold."""
    return isinstance(hint, type) and hint not in (Any, bool, int, float, str, tuple, type(None))


def _is_plugin_class(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Plugin)


def _field_docs(cls: type) -> dict[str, str]:
    docs = {}
    for base in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):  # no source, as at an interactive prompt
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    docs[name] = " ".join(inspect.cleandoc(doc).split())
    return docs

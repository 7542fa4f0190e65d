"""What a class does, as bytes to be hashed: for classes that have no file, such as a notebook's."""

import functools
import types
from typing import Any

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
"""Of other values the repr may hold an address, which differs from process to process."""


def class_code(cls: type) -> bytes:
    """The code of its methods and of the functions inside them, its attributes, and those of its bases of its module.

    So too the functions and classes of its module that its code calls by name. The same in every process, and for the
    same class defined on other lines; comments and names of arguments are no part of it.
    """
    return repr(_content(cls, cls.__module__, set())).encode()


def _content(value: Any, module: str, seen: set[int]) -> Any:
    """Nested tuples of plain values that stand for a value."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, tuple | list):
        return tuple(_content(item, module, seen) for item in value)
    if isinstance(value, set | frozenset):
        return tuple(sorted(repr(_content(item, module, seen)) for item in value))
    if isinstance(value, dict):
        return tuple((repr(key), _content(item, module, seen)) for key, item in value.items())
    if isinstance(value, types.CodeType):
        consts = _content(value.co_consts, module, seen)
        return value.co_name, value.co_code, value.co_names, value.co_freevars, value.co_exceptiontable, consts
    if isinstance(value, staticmethod | classmethod):
        return type(value).__name__, _content(value.__func__, module, seen)
    if isinstance(value, property):
        return "property", *(_content(part, module, seen) for part in (value.fget, value.fset, value.fdel))
    if isinstance(value, functools.cached_property):
        return "cached_property", _content(value.func, module, seen)
    if hasattr(value, "__wrapped__"):  # by functools.wraps, as jax.jit does
        return "wrapped", _content(value.__wrapped__, module, seen)
    is_ours = getattr(value, "__module__", None) == module and isinstance(value, type | types.FunctionType)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if not is_ours or id(value) in seen:
        return name
    seen.add(id(value))
    return name, _class(value, module, seen) if isinstance(value, type) else _function(value, module, seen)


def _class(cls, module, seen):
    """Of what Python and `dataclass` add to a class, only the methods: the rest has line numbers and addresses."""
    own = {
        name: value
        for name, value in vars(cls).items()
        if not name.startswith("_abc_") and (not name.startswith("__") or isinstance(value, types.FunctionType))
    }
    return _content(own, module, seen), _content(cls.__bases__, module, seen)


def _function(function, module, seen):
    called = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    ours = {name: value for name, value in called.items() if isinstance(value, type | types.FunctionType)}
    parts = (function.__code__, function.__defaults__, function.__kwdefaults__, _cells(function), ours)
    return tuple(_content(part, module, seen) for part in parts)


def _cells(function):
    """What a function holds of the one around it."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            found.append(None)
    return found

"""The parts of Python code that JAX calls back, and of all that it reads, for the hash of a fingerprint.

They are the same in each process: no address, no hash of Python and no line number is among them. A function or a class
of an installed package is only named; the version of the package is not compared.
"""

import copyreg
import dis
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_OF_CLASS = {"__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__", "_abc_impl"}
"""What a class has beside what its author has written into it, and what computes nothing."""
_NAMED = (BuiltinFunctionType, MethodWrapperType, np.ufunc, type(np.sum), type(str.join), type(int.real))
"""The types of functions whose code is not Python."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), np.dtype, jax.tree_util.PyTreeDef)
"""The types of values that their text shows."""

type Parts = Iterator[str | bytes]


class UnreadableError(TypeError):
    """Python code holds an object whose content cannot be read, such as an open file."""


def parts_of_code(value: Any) -> Parts:
    """The parts of a function, or of any other value of Python, with those of all values that it reads.

    Raises:
        UnreadableError: it holds an object whose content cannot be read.
    """
    yield "python {}.{}".format(*sys.version_info)  # another version compiles other code
    yield from _parts(value, {})


def parts_of_array(value: Any) -> Parts:
    """Dtype, shape and bytes of an array of numpy or JAX, which may hold keys."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield str(value.dtype)
        value = jax.random.key_data(value)
    array = np.asarray(value)
    yield f"{array.dtype}{array.shape}"
    yield array.tobytes()


def plain(value: Any) -> str:
    """The type and the text of a value, without addresses."""
    return f"{type(value).__name__} {_ADDRESS.sub('', repr(value))}"


type _Seen = dict[Any, tuple[int, Any]]
"""What was visited before: its `id` -> its number and itself, which stays alive, so that nothing else has this `id`.

Of a module, only some variables are visited, whose names are a part of the key.
"""


def _parts(value: Any, seen: _Seen) -> Parts:
    if isinstance(value, _PLAIN):
        yield plain(value)
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        # The bytes of an array of objects are addresses.
        has_objects = isinstance(value, np.ndarray) and value.dtype.hasobject
        yield from _several(value.shape, value.ravel().tolist(), seen) if has_objects else parts_of_array(value)
    elif isinstance(value, tuple):
        yield from _several(type(value).__name__, value, seen)
    elif isinstance(value, CodeType):
        yield from _of_code(value, seen)
    elif isinstance(value, frozenset | set):
        # The order of a set depends on the process, so that of the hashes of its members is taken.
        yield from _several(type(value).__name__, sorted(_sha256(each, seen) for each in value), seen)
    elif id(value) in seen:
        # Tuples and constants of code are not counted as seen: Python may share equal ones.
        yield f"seen {seen[id(value)][0]}"
    else:
        seen[id(value)] = len(seen), value
        yield from _of_object(value, seen)


def _several(kind: Any, values: Any, seen: _Seen) -> Parts:
    values = list(values)
    yield f"{kind} {len(values)}"
    for value in values:
        yield from _parts(value, seen)


def _sha256(value: Any, seen: _Seen) -> str:
    parts = (part.encode() if isinstance(part, str) else part for part in _parts(value, dict(seen)))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _of_object(value: Any, seen: _Seen) -> Parts:
    """The parts of what is neither a number nor a text."""
    if isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, type):
        yield f"class {value.__module__}.{value.__qualname__}"
        if not _is_installed(value.__module__):
            named = (item for item in vars(value).items() if item[0] not in _OF_CLASS)
            yield from _several("", (value.__bases__, *named), seen)
    elif isinstance(value, FunctionType):
        yield from _of_function(value, seen)
    elif isinstance(value, MethodType):
        yield from _several("method", (value.__func__, value.__self__), seen)
    elif isinstance(value, property):
        yield from _several("property", (value.fget, value.fset, value.fdel), seen)
    elif type(value) in (dict, MappingProxyType):
        yield from _several(type(value).__name__, value.items(), seen)
    elif isinstance(value, _NAMED):
        yield f"{getattr(value, '__module__', None)} {getattr(value, '__qualname__', value.__name__)}"
        yield from _parts(getattr(value, "__self__", None), seen)
    # Such as a static method, or a function of `jax.jit` or of `functools.cache`: other wrappers may hold more.
    elif hasattr(value, "__wrapped__") and _is_installed(type(value).__module__):
        yield from _several(type(value).__name__, (value.__wrapped__,), seen)
    else:
        yield from _several("object", (type(value), *_content(value)), seen)


def _of_function(function: FunctionType, seen: _Seen) -> Parts:
    # A variable that has no value yet is an empty cell.
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
    yield from _several("function", (function.__defaults__, function.__kwdefaults__, *cells), seen)
    if _is_installed(function.__module__):
        yield f"{function.__module__}.{function.__qualname__}"
        return
    yield from _parts(function.__code__, seen)
    codes = list(_codes(function.__code__))
    steps = [step for code in codes for step in dis.get_instructions(code)]
    # The body of a class inside of the function reads global variables by LOAD_NAME.
    names = tuple(sorted({step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}))
    attributes = tuple(sorted({name for code in codes for name in code.co_names}))
    yield from _of_names(names, function.__globals__, attributes, seen)


def _of_names(names: tuple[str, ...], values: Mapping[str, Any], attributes: tuple[str, ...], seen: _Seen) -> Parts:
    """The parts of global variables, and of those of modules that are not installed.

    Args:
        names: the variables. Those without a value are built in, or missing.
        values: the variables of the module.
        attributes: the variables of other modules that may be read.
        seen: see `_Seen`.
    """
    for name in names:
        if name not in values:
            continue
        value = values[name]
        yield name
        yield from _parts(value, seen)
        key = id(value), attributes
        if isinstance(value, ModuleType) and not _is_installed(value.__name__) and key not in seen:
            seen[key] = len(seen), value
            yield from _of_names(attributes, vars(value), attributes, seen)


def _of_code(code: CodeType, seen: _Seen) -> Parts:
    """The parts of code: what is executed, but not where it was written."""
    yield f"code {code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}"
    yield code.co_code
    yield code.co_exceptiontable
    yield from _several("names", (code.co_names, code.co_consts), seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Code, and that of the functions inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _content(value: Any) -> tuple[Any, ...]:
    """What `pickle` would write of an object."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        content = value.__reduce_ex__(4) if reduce is None else reduce(value)
    except Exception as fault:  # whatever its class raises
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise UnreadableError(f"an object of {kind}, whose content cannot be read") from fault
    parts = (content,) if isinstance(content, str) else content
    # The items of a list or a dict are iterators.
    return tuple(tuple(part) if isinstance(part, Iterator) else part for part in parts)


def _is_installed(module: str | None) -> bool:
    """Whether a module is part of Python or of an installed package."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    is_builtin = (module or "").partition(".")[0] in sys.builtin_module_names
    return is_builtin or (file is not None and file.startswith(_INSTALLED))

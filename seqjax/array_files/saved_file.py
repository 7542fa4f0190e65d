"""How a saved file is read: an error says what is wrong with it, and that no file was touched."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors
from pydantic import TypeAdapter, ValidationError

from seqjax.errors import Error
from seqjax.files import read_plain

READ_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
    safetensors.SafetensorError,
)
"""What reading a damaged file may raise."""
LONGEST_TABLE = 2**26
"""The largest number of bytes of a file of JSON or TOML."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A context in which a saved file is read and parsed.

    Raises:
        Error: exit code 4: the file is missing or damaged; 6: it may not be read, or is larger than the memory.
    """
    try:
        yield
    except PermissionError as fault:
        raise Error(f"{path} may not be read: {fault.strerror}; no file was touched", exit_code=6) from fault
    except FileNotFoundError as fault:
        raise missing(path) from fault
    except READ_ERRORS as fault:
        if isinstance(fault, Error) and fault.exit_code in (4, 6):
            raise
        reason = str(fault) if type(fault) is ValueError else f"{type(fault).__name__}: {fault}"
        raise Error(
            f"{path} is damaged, or another version of seqjax has written it ({reason})\n"
            "No file was touched. Restore the old file, or choose another folder",
            exit_code=4,
        ) from fault


def read[T](path: Path, parse: Callable[[bytes], T], may_be_long: bool = False) -> T:
    """Reads a saved file, and returns the result of `parse`. Raises what `reading` does.

    Args:
        path: the file.
        parse: gets the bytes.
        may_be_long: whether a file of JSON or TOML may have more than `LONGEST_TABLE` bytes.
    """
    with reading(path):
        is_table = path.suffix in (".json", ".toml", ".code") and not may_be_long
        if is_table and (size := path.lstat().st_size) > LONGEST_TABLE:
            raise ValueError(f"it has {size:,} bytes, more than {LONGEST_TABLE:,}")
        return parse(read_plain(path))


def read_text(path: Path, may_be_long: bool = False) -> str:
    """The text of a saved UTF-8 file, as `read` reads it."""
    return read(path, lambda data: data.decode("utf-8"), may_be_long)


def from_json[T](form: TypeAdapter[T], data: bytes | str) -> T:
    """The value of a JSON text; a `ValueError` of one line if it is of another form."""
    with _one_line():
        return form.validate_json(data, strict=True)


def checked[T](form: TypeAdapter[T], value: Any) -> T:
    """A value of JSON that was parsed, as `from_json` returns it."""
    with _one_line():
        return form.validate_python(value, strict=True)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except ValidationError as fault:
        first = fault.errors()[0]
        raise ValueError(f"{'/'.join(map(str, first['loc']))}: {first['msg']}") from fault


def missing(file: Path) -> Error:
    """The error about a file that is not there."""
    return Error(f"{file} is missing; no file was touched. Restore it, or choose another folder", exit_code=4)

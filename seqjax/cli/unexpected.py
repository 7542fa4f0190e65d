"""What a command says about an exception that no code expected."""

import contextlib
import os
import traceback
from collections.abc import Iterator

from seqjax.errors import Error
from seqjax.files import WRONG_NAMES
from seqjax.plugin.author import mistake_of_any
from seqjax.plugin.registry import is_of_jax


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns an exception that no code expected into an `Error`.

    What the caller handles passes unchanged: an `Error`, Ctrl-C, a reader that has gone, a full disk or memory.

    Raises:
        Error: a name that no file can have, a number that is too large, settings of JAX, or a mistake of a plugin (exit
            code 2); a missing permission (6); anything else is a fault of seqjax (1).
    """
    try:
        yield
    except (Error, KeyboardInterrupt, BrokenPipeError, MemoryError):
        raise
    except BaseException as fault:
        known = mistake_of_any(fault) or _of_surroundings(fault)
        if known is not None:
            raise known from fault
        # Python itself ends with such an exit code; a full disk or memory is the caller's.
        if isinstance(fault, OSError | SystemExit) or "RESOURCE_EXHAUSTED" in str(fault):
            raise
        raise Error(
            f"a fault of seqjax itself, and not of your input: {_in_short(fault)}\n"
            "No file of a run was damaged. Please report it with the traceback, which the same command with --debug "
            "shows",
            exit_code=1,
        ) from fault


def _of_surroundings(fault: BaseException) -> Error | None:
    """The error about a file or about settings that the user can change."""
    if isinstance(fault, PermissionError):
        return Error(f"{fault.filename}: {fault.strerror}; ask for the permission, or choose another", exit_code=6)
    if isinstance(fault, OSError) and fault.errno in WRONG_NAMES:
        return Error(f"{str(fault.filename)[:100]!r}: {fault.strerror}; choose another name")
    if isinstance(fault, OverflowError):
        return Error(f"a number is too large: {_in_short(fault)}\nUse a smaller one; most numbers are below 2^31")
    if is_of_jax(fault) or (isinstance(fault, RuntimeError) and "initialize backend" in str(fault)):
        names = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_")))
        return Error(
            f"JAX does not start: {str(fault) or type(fault).__name__}\n"
            f"Its settings are environment variables; these are set: {', '.join(names) or 'none'}"
        )
    return None


def _in_short(fault: BaseException) -> str:
    """Type, message and place of an exception."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(fault).__name__}: {str(fault).partition(chr(10))[0][:300]}{where}"

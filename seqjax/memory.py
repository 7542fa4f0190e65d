"""The memory of this machine, so that what cannot fit is an error before it is tried."""

import contextlib
import os
from pathlib import Path

from seqjax.errors import Error

_LIMIT_OF_GROUP = Path("/sys/fs/cgroup/memory.max")
"""The file in which Linux tells a container how many bytes it may use; "max": there is no limit."""


def memory_bytes() -> int:
    """The bytes of memory of this machine, or of the container in which this process runs."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(_LIMIT_OF_GROUP.read_text()))
    return min(limits)


def check_memory(what: str, needed: int, advice: str) -> None:
    """Raises an `Error` with exit code 6 if something needs more bytes than this machine has.

    Args:
        what: what needs them, in the plural.
        needed: the number of bytes.
        advice: what to do about it.
    """
    there = memory_bytes()
    if needed > there:
        raise Error(
            f"{what} take {_gigabytes(needed)}, and this machine has {_gigabytes(there)} of memory\n{advice}",
            exit_code=6,
        )


def check_device_memory(what: str, needed: int, advice: str) -> None:
    """`check_memory` for arrays of JAX: only where a CPU computes, which has the memory of this machine."""
    import jax

    if jax.default_backend() == "cpu":
        check_memory(what, needed, advice)


def _gigabytes(size: int) -> str:
    """A number of bytes in words, such as `4,000,000,000.0 GB`."""
    # Integer division: a float cannot hold the bytes of an absurd model.
    return f"{size // 10**9:,}.{size // 10**8 % 10} GB"

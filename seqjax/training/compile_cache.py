"""Keeps compiled programs for later processes. Imports no jax: what it sets must be set before jax is imported."""

import os
import stat
import sys
from pathlib import Path

from seqjax.user_cache import cache_folder, machine_key

MOST_BYTES = 250_000_000
"""The size of the cache in bytes; beyond it, JAX deletes the programs that have not been used for the longest time."""
VARIABLES = {
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(MOST_BYTES),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
"""The settings of JAX beside the folder, as environment variables, which child processes inherit."""


def keep_programs() -> bool:
    """Lets this process and its children use programs that earlier processes compiled, and keeps theirs.

    Call it before jax is imported; later it does nothing. The programs are in the folder `compiled` of the user's cache
    folder for seqjax, with a folder for each kind of processor. If JAX cannot read one, it warns and compiles.

    Returns:
        Whether the cache is used. It is not used if JAX_COMPILATION_CACHE_DIR or JAX_ENABLE_COMPILATION_CACHE is set,
        if the folder cannot be written, or if other users may write into it: a program is code that is run.
    """
    # A program for another processor may use instructions that this one lacks.
    folder = cache_folder("compiled") / machine_key()
    inherited = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    # A job of a cluster inherits the folder of the machine from which it was submitted.
    is_of_another = inherited and Path(inherited) != folder and Path(inherited).parent == folder.parent
    is_chosen = "JAX_ENABLE_COMPILATION_CACHE" in os.environ or (inherited and not is_of_another)
    if "jax" in sys.modules or is_chosen:
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            return False
        _delete_incomplete(folder)
    except OSError:
        return False
    os.environ |= VARIABLES | {"JAX_COMPILATION_CACHE_DIR": str(folder)}
    return True


def _is_private(folder: Path) -> bool:
    """Whether nobody but this user may write into a folder."""
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _delete_incomplete(folder: Path) -> None:
    """Deletes programs that a killed process may have left half-written, which JAX would never write again.

    JAX writes the time of use of a program after the program. A program that another process is just writing may be
    deleted too: it is compiled once more.
    """
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
            program.unlink(missing_ok=True)

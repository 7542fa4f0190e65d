"""Keeps compiled programs for later processes. Imports no jax: what it sets must be set before jax is imported."""

import atexit
import contextlib
import hashlib
import json
import os
import stat
import sys
from pathlib import Path

import filelock

from seqjax.errors import Error
from seqjax.files import read_plain, write
from seqjax.parse import from_json
from seqjax.user_cache import cache_folder, machine_key

MOST_BYTES = 250_000_000
"""The size of the cache in bytes; beyond it, JAX deletes the programs that have not been used for the longest time.
Each start hashes all programs, which takes .3 s at this size."""
SEALS = "blake2b.json"
"""The file with the hash of each program: JAX itself may not notice that a file has changed."""
LOCK = ".lockfile"
"""The file that JAX locks to read or write a program."""
LOCK_SECONDS = 10
"""Time after which the cache is left alone, if another process holds its lock."""
VARIABLES = {
    "JAX_COMPILATION_CACHE_DIR": "",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(MOST_BYTES),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
"""The settings of JAX, as environment variables, which child processes inherit."""


def keep_programs() -> bool:
    """Lets this process and its children use programs that earlier processes compiled, and keeps theirs.

    Call it before jax is imported; later it does nothing. A program is used only if its hash is the one that was
    recorded when the process that compiled it ended; others are deleted. They are in the folder `compiled` of the
    user's cache folder for seqjax, with a folder for each kind of processor.

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
        with filelock.FileLock(folder / LOCK, timeout=LOCK_SECONDS):
            _delete_unsealed(folder)
    except (OSError, filelock.Timeout):
        return False
    os.environ |= VARIABLES | {"JAX_COMPILATION_CACHE_DIR": str(folder)}
    atexit.register(_seal, folder)
    return True


def _is_private(folder: Path) -> bool:
    """Whether nobody but this user may write into a folder."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _programs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-cache"))


def _time_of_use(program: Path) -> Path:
    return program.with_name(program.name.removesuffix("-cache") + "-atime")


def _hash(file: Path) -> str:
    # On processors without instructions for SHA-256, BLAKE2b is faster.
    return hashlib.blake2b(file.read_bytes(), digest_size=32).hexdigest()


def _seals(folder: Path) -> dict[str, str]:
    """Name -> hash; empty if the file is missing or damaged."""
    try:
        seals = from_json(read_plain(folder / SEALS))
    except (OSError, ValueError):
        return {}
    return seals if isinstance(seals, dict) else {}


def _delete_unsealed(folder: Path) -> None:
    """Deletes programs whose hash is not the recorded one, or was not recorded before their process was killed."""
    seals = _seals(folder)
    for file in _programs(folder):
        if seals.get(file.name) != _hash(file):
            file.unlink()


def _seal(folder: Path) -> None:
    """Records the hashes of complete programs that have none.

    JAX writes the time of use of a program after the program. If this file is missing, a process was killed before it
    was written, and the program may be incomplete; the next start deletes it.
    """
    with contextlib.suppress(OSError, Error, filelock.Timeout), filelock.FileLock(folder / LOCK, timeout=LOCK_SECONDS):
        seals = _seals(folder)
        whole = [file for file in _programs(folder) if _time_of_use(file).exists()]
        new = {file.name: seals.get(file.name) or _hash(file) for file in whole}
        if new != seals:
            write(folder / SEALS, json.dumps(new))

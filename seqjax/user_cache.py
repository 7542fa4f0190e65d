"""The user's cache folder, which keeps results for later processes. It may be deleted at any time."""

import hashlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

from seqjax.errors import Error
from seqjax.files import read_plain, write
from seqjax.parse import from_json


def cache_folder(name: str) -> Path:
    """A folder in the user's cache folder for seqjax, as the operating system has it."""
    return Path(platformdirs.user_cache_dir("seqjax")) / name


def machine_key() -> str:
    """A key for this kind of machine: its processor with all its features, and its operating system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    own = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return hash_of(platform.platform(), platform.machine(), platform.processor(), list(dict.fromkeys(own)))


def hash_of(*parts: Any) -> str:
    """The hash of some texts and numbers."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def file_key(path: str | Path) -> str:
    """A key for the contents of a file in its present state: its path, size, and the time at which it was changed."""
    status = os.stat(path)
    return hash_of(str(Path(path).resolve()), status.st_size, status.st_mtime_ns, status.st_ino)


def remembered[T](folder: str, key: str, make: Callable[[], T]) -> T:
    """What `make` returned at the first call with this key, now or in an earlier process.

    Args:
        folder: the name of a folder in the user's cache folder.
        key: names the result.
        make: returns what JSON can hold.
    """
    file = cache_folder(folder) / f"{key}.json"
    try:
        kept = from_json(read_plain(file))
    except (OSError, ValueError):  # it is not there, or damaged
        kept = None
    if isinstance(kept, dict) and kept.keys() == {"key", "value"} and kept["key"] == key:
        return kept["value"]
    value = make()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(file, json.dumps({"key": key, "value": value}))
    except (OSError, Error):  # it is computed again the next time
        pass
    return value

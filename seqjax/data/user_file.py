"""`FileDataset`, a dataset in a file that the user named, and `read_file`, which reads such a file."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from seqjax.data.dataset import Dataset
from seqjax.errors import Error


class FileDataset(Dataset):
    """A dataset in the file of its field `path`, whose default sampler depends on the length of the data."""

    path: str

    @property
    def sampler_fields(self) -> Mapping[str, int]:  # type: ignore[override]
        """Those of the data. If the file cannot be read, there are none, and the error comes with `load`."""
        try:
            found = os.stat(self.path)
        except (OSError, ValueError):
            return {}
        return _sampler_fields(self, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=16)
def _sampler_fields(dataset: FileDataset, changed: int, size: int) -> Mapping[str, int]:
    """The fields of a file in this state, so that the many experiments of a sweep load it once."""
    try:
        return dataset.load().sampler_fields
    except Error:
        return {}


def read_file(path: str | Path, dataset: str) -> bytes:
    """The bytes of a file that a dataset was given as its field `path`.

    Args:
        path: the path.
        dataset: the name of the dataset, for messages.

    Raises:
        Error: the file cannot be read; it may not be read (exit code 6).
    """
    try:
        return Path(path).read_bytes()
    except PermissionError as fault:
        raise Error(f"dataset {dataset}: {path} may not be read: {fault.strerror}", exit_code=6) from fault
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise Error(
            f"dataset {dataset}: {str(path)!r} cannot be read from the folder {Path.cwd()}: {reason}\n"
            "Check the field path (--dataset.path)"
        ) from fault

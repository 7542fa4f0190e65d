"""`FileDataset`, a dataset in a file that the user named, and `read_file`, which reads such a file."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from seqjax.data.dataset import Dataset
from seqjax.errors import Error
from seqjax.files import read_named


class FileDataset(Dataset):
    """A dataset in the file of its field `path`, whose default sampler and optimizer depend on the data."""

    path: str

    @property
    def sampler_fields(self) -> Mapping[str, int]:  # type: ignore[override]
        """The sampler fields of the data; empty if the file cannot be read: `load` then raises the error."""
        return self._of_data()[0]

    @property
    def of_values(self) -> bool:  # type: ignore[override]
        """Whether the targets in the file are values; False if it cannot be read."""
        return self._of_data()[1]

    def _of_data(self) -> tuple[Mapping[str, int], bool]:
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return {}, False
        return _of_file(self, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _of_file(dataset: FileDataset, changed: int, size: int) -> tuple[Mapping[str, int], bool]:
    """`sampler_fields` and `of_values` of a file, cached so that the experiments of a sweep load it once."""
    try:
        data = dataset.load()
    except Exception:  # whatever its library raises; the run raises it again, where it is explained
        return {}, False
    return data.sampler_fields, data.of_values


def read_file(path: str | Path, dataset: str) -> bytes:
    """The bytes of a file that a dataset was given as its field `path`.

    Args:
        path: the path.
        dataset: the name of the dataset, for messages.

    Raises:
        Error: the file cannot be read, or is a device; permission is denied (exit code 6).
    """
    try:
        return read_named(path)
    except PermissionError as fault:
        raise Error(f"dataset {dataset}: {path} may not be read: {fault.strerror}", exit_code=6) from fault
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise Error(
            f"dataset {dataset}: {str(path)!r} cannot be read from the folder {Path.cwd()}: {reason}\n"
            "Check the field path (--dataset.path)"
        ) from fault

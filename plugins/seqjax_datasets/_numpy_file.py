"""Reads a file of numpy, and says what is wrong with a file that only has its ending."""

import io
import math
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from seqjax import Error
from seqjax.data import read_file


def read_numpy(path: str, dataset: str, pick: Callable[[Any], Any], writing: str) -> Any:
    """What `pick` takes from a file of numpy. Arrays of objects, which pickle would load and can run code, are refused.

    Args:
        path: the file.
        dataset: the name of the dataset, for messages.
        pick: is called with the array in the file; or with its `Arrays`.
        writing: the call of numpy that writes such a file.

    Raises:
        Error: the file cannot be read, is no file of numpy, is damaged, or has an array that is larger than the memory
            (exit code 6); `pick` raises it.
    """
    data = read_file(path, dataset)
    if not data.startswith((b"\x93NUMPY", b"PK\x03\x04")):  # numpy would advise to unpickle it
        raise Error(f"dataset {dataset}: {path} is no {dataset} file\nIf it is a table in CSV: --dataset csv")
    try:
        if data.startswith(b"PK"):
            return pick(Arrays(np.load(io.BytesIO(data))))
        _check_size(io.BytesIO(data), len(data))
        return pick(np.load(io.BytesIO(data)))
    except Error:
        raise
    except MemoryError as fault:
        raise Error(f"dataset {dataset}: {path} has an array that is larger than the memory", exit_code=6) from fault
    # Where a file is damaged, numpy passes on what zipfile, zlib, tokenize and others raise, even SystemError.
    except Exception as fault:
        reason = f"{type(fault).__name__}: {fault}"
        raise Error(
            f"dataset {dataset}: {path} is damaged, or holds no numbers: {reason:.200}\nWrite it again with {writing}"
        ) from fault


class Arrays:
    """The arrays in a file of several arrays, by name. Each is read when it is asked for.

    Args:
        file: what `numpy.load` returns.
    """

    def __init__(self, file: Any):
        self.file = file
        self.names: list[str] = file.files

    def __getitem__(self, name: str) -> np.ndarray:
        member = name if name in self.file.zip.namelist() else f"{name}.npy"
        with self.file.zip.open(member) as opened:
            _check_size(opened, self.file.zip.getinfo(member).file_size)
        return self.file[name]


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _check_size(file: IO[bytes], size: int) -> None:
    """Raises a `ValueError` if an array needs more bytes than its file has, for which numpy would first ask for memory.

    Args:
        file: the array, in the format of numpy.
        size: the number of its bytes.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:  # it has words that are not ASCII, and no numbers
        return
    shape, _, dtype = _HEADERS[version](file)
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed > there and not dtype.hasobject:
        raise ValueError(f"an array of shape {list(shape)} has {needed:,} bytes, and the file has {there:,} for it")

"""Reads a file that numpy wrote, or that only has its ending."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from seqjax import Error
from seqjax.data import read_file


def read_numpy(path: str, dataset: str, pick: Callable[[Any], Any], writing: str) -> Any:
    """What `pick` takes from a file of numpy. Arrays of objects, which pickle would load and can run code, are refused.

    Args:
        path: the file.
        dataset: the name of the dataset, for messages.
        pick: is called with the array in the file; or with its arrays by name, which are read when they are asked for.
        writing: the call of numpy that writes such a file.

    Raises:
        Error: the file cannot be read, is no file of numpy, or is damaged; `pick` raises it.
    """
    data = read_file(path, dataset)
    if not data.startswith((b"\x93NUMPY", b"PK\x03\x04")):  # numpy would advise to unpickle it
        raise Error(f"dataset {dataset}: {path} is no {dataset} file\nIf it is a table in CSV: --dataset csv")
    try:
        return pick(np.load(io.BytesIO(data)))
    except Error:
        raise
    # Where a file is damaged, numpy passes on what zipfile, zlib, tokenize and others raise, even SystemError.
    except Exception as fault:
        reason = f"{type(fault).__name__}: {fault}"
        raise Error(
            f"dataset {dataset}: {path} is damaged, or holds no numbers: {reason:.200}\nWrite it again with {writing}"
        ) from fault

"""A series in a file of numpy."""

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from seqjax import Error, Series, register
from seqjax.data import FileDataset, read_file


@register("dataset", "npy")
@dataclass(frozen=True)
class NPY(FileDataset):
    """A series in a file of `numpy.save`: float[n] or float[n, dim], or float[sequences, n, dim], each a document."""

    path: str
    """Path of the file, `*.npy`."""

    def load(self):
        """The series."""
        data = read_file(self.path, "npy")
        if not data.startswith((b"\x93NUMPY", b"PK\x03\x04")):  # numpy would advise to unpickle it
            raise Error(f"dataset npy: {self.path} is no npy file\nIf it is a table in CSV: --dataset csv")
        try:
            values = np.load(io.BytesIO(data))
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as fault:
            raise Error(f"dataset npy: {self.path} is no array of numbers that numpy.save wrote: {fault}") from fault
        if not isinstance(values, np.ndarray):
            raise Error(f"dataset npy: {self.path} has several arrays; read it with the dataset npz")
        if values.ndim not in (1, 2, 3):
            raise Error(
                f"dataset npy: {self.path} has an array of shape {list(values.shape)}, and must have float[n], "
                "float[n, dim] or float[sequences, n, dim]"
            )
        try:
            if values.ndim != 3:
                return Series(values, source=self.path)
            num_sequences, num_steps, dim = values.shape
            bounds = np.arange(num_sequences + 1) * num_steps
            return Series(values.reshape(num_sequences * num_steps, dim), (), self.path, bounds)
        except Error as fault:
            raise Error(f"dataset npy: {self.path}: {fault}") from fault

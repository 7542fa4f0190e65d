"""A series in a file of numpy."""

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from seqjax import Error, Series, register
from seqjax.data import FileDataset, read_file


@register("dataset", "npy")
@dataclass(frozen=True)
class Npy(FileDataset):
    """A series in a file of `numpy.save`: float[n] or float[n, dim], or float[sequences, n, dim], each a document."""

    path: str
    """Path of the file, `*.npy`."""

    def load(self):
        """The series."""
        try:
            values = np.load(io.BytesIO(read_file(self.path, "npy")))
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as fault:
            raise Error(f"dataset npy: {self.path} is no array of numbers that numpy.save wrote: {fault}") from fault
        if not isinstance(values, np.ndarray):
            raise Error(f"dataset npy: {self.path} has several arrays; read it with the dataset npz")
        if values.ndim != 3:
            return Series(values, source=self.path)
        num_sequences, num_steps, dim = values.shape
        return Series(values.reshape(-1, dim), (), self.path, np.arange(num_sequences + 1) * num_steps)

"""A series in a file of numpy."""

from dataclasses import dataclass

import numpy as np

from seqjax import Error, Series, register
from seqjax.data import FileDataset
from seqjax_datasets._numpy_file import read_numpy


@register("dataset", "npy")
@dataclass(frozen=True)
class NPY(FileDataset):
    """A series in a file of `numpy.save`: float[n] or float[n, dim], or float[sequences, n, dim], each a document."""

    path: str
    """Path of the file, `*.npy`."""

    def load(self):
        """The series."""
        values = read_numpy(self.path, "npy", lambda found: found, "numpy.save(path, array)")
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

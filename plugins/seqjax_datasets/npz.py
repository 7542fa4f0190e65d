"""Inputs and targets in a file of numpy."""

from dataclasses import dataclass

import numpy as np

from seqjax import Error, Pairs, register
from seqjax.data import FileDataset
from seqjax.errors import few, nearest
from seqjax_datasets._numpy_file import read_numpy


@register("dataset", "npz")
@dataclass(frozen=True)
class NPZ(FileDataset):
    """Inputs and targets in a file of `numpy.savez`. Integers are ids, and reals are values.

    The first axis of all arrays is the sequence: inputs int[N, T] or float[N, T, dim], targets of the same form. One
    target for each sequence, int[N], float[N] or float[N, dim], is predicted after its last step. Without `sequences`,
    the arrays are one sequence: int[n], float[n] or float[n, dim].
    """

    path: str
    """Path of the file, `*.npz`."""
    inputs: str = "inputs"
    """The name of the array that the model reads."""
    targets: str = "targets"
    """The name of the array that the model predicts."""
    lengths: str | None = None
    """The name of an array int[N], the number of steps of each sequence; the steps after it are padding. None: all
    steps."""
    sequences: bool = True
    """Whether the first axis is the sequence. False: it is the time step of one sequence."""

    def __post_init__(self):
        super().__post_init__()
        if self.lengths and not self.sequences:
            raise Error("dataset npz: lengths need sequences; leave out lengths, or sequences = false")

    def load(self):
        """The pairs."""
        arrays = read_numpy(self.path, "npz", self._pick, "numpy.savez(path, inputs=x, targets=y)")
        try:
            return self._pairs(arrays)
        except Error as fault:
            raise Error(f"dataset npz: {self.path}: {fault}") from fault

    def _pairs(self, arrays):
        """The pairs of these arrays."""
        inputs, targets = arrays[self.inputs], arrays[self.targets]
        if not self.sequences:
            return Pairs(inputs, targets, source=self.path)
        if inputs.ndim and targets.ndim and len(inputs) != len(targets):
            raise Error(
                f"{self.inputs} has {len(inputs):,} sequences and {self.targets} has {len(targets):,}\n"
                f"Both need the same first axis N. Pad sequences of different lengths to {self.inputs}[N, T, ...], and "
                "name an array int[N] of their numbers of steps: lengths = its name. If they lie one after the other, "
                "cut them in Python: "
                "seqjax.Pairs.from_sequences(numpy.split(inputs, numpy.cumsum(lengths)[:-1]), targets)"
            )
        if self.lengths:
            lengths = arrays[self.lengths]
            if lengths.shape != inputs.shape[:1] or lengths.dtype.kind not in "iu":
                raise Error(
                    f"{self.lengths} must be int[{len(inputs)}], a length for each sequence, and is "
                    f"{lengths.dtype}{list(lengths.shape)}"
                )
            if lengths.size and not (lengths.min() >= 1 and lengths.max() <= inputs.shape[1]):
                raise Error(
                    f"{self.lengths} are from {lengths.min()} to {lengths.max()}, and the sequences have 1 to "
                    f"{inputs.shape[1]} steps"
                )
            has_steps = targets.shape[:2] == inputs.shape[:2]
            inputs = [a[:n] for a, n in zip(inputs, lengths, strict=True)]
            targets = [a[:n] for a, n in zip(targets, lengths, strict=True)] if has_steps else targets
        return Pairs.from_sequences(inputs, targets, source=self.path)

    def _pick(self, file):
        """The arrays of a file that are used, by name."""
        if isinstance(file, np.ndarray):
            raise Error(f"dataset npz: {self.path} has one array; read it with the dataset npy")
        names = [name for name in (self.inputs, self.targets, self.lengths) if name]
        for name in names:
            if name not in file.names:
                hint = f"{nearest(name, file.names)} (arrays: {few(file.names)})"
                raise Error(f"dataset npz: {self.path} has no array {name!r}{hint}")
        return {name: file[name] for name in names}

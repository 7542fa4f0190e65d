"""Scales values to mean 0 and standard deviation 1."""

from dataclasses import dataclass

import numpy as np

from seqjax import Error, Pairs, Series, Tokenizer, Values, register
from seqjax.data import PairsCodec


@register("tokenizer", "standardize")
@dataclass(frozen=True)
class Standardize(Tokenizer):
    """Scales each column of values to (x - mean) / std, with the mean and std of the training part.

    Predictions are decoded, so they are in the units of the data. Losses are computed from the scaled values. The
    inputs and the targets of pairs are scaled separately, the targets by the mean and std of the scored ones; ids stay
    as they are. A column that is constant in the training part is divided by 1.
    """

    also_called = ("standard-scaler", "normalize", "z-score")

    def fit(self, data):
        """The codec of a series, or of pairs with values."""
        if isinstance(data, Series):
            return _fit(data.values)
        spec = data.spec if isinstance(data, Pairs) else None
        if spec is None or not (isinstance(spec.inputs, Values) or isinstance(spec.targets, Values)):
            raise Error(
                f"tokenizer standardize scales values, and the dataset is {type(data).__name__} without any\n"
                "Leave the tokenizer out, or choose one that splits text"
            )
        targets = data.targets if data.mask is None else data.targets[data.mask]
        return PairsCodec(
            _fit(data.inputs) if isinstance(spec.inputs, Values) else None,
            _fit(targets) if isinstance(spec.targets, Values) else None,
        )

    def load(self, saved):
        """The codec whose `to_dict` gave `saved`."""
        if "inputs" in saved:
            return PairsCodec(*(saved[side] and self.load(saved[side]) for side in ("inputs", "targets")))
        mean, std = np.array(saved["mean"]), np.array(saved["std"])
        is_scale = mean.dtype.kind in "if" and std.dtype.kind in "if" and mean.shape == std.shape and mean.ndim == 1
        if not (is_scale and mean.size and np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise Error("tokenizer standardize: a scale has a finite mean and a std above 0 for each column")
        return Scale(tuple(saved["mean"]), tuple(saved["std"]))


def _fit(x):
    """The scale of values float[n, dim]."""
    if not len(x):
        raise Error("tokenizer standardize: the training part is empty")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = x.mean(0), x.std(0)
    if not np.isfinite(std).all():
        raise Error("tokenizer standardize: the values are too large for their squares; scale them down")
    # Rounding may give a constant column a std above 0, or a column that varies very little a std of 0.
    varies = (x.max(0) > x.min(0)) & (std > 0)
    return Scale(tuple(mean.tolist()), tuple(np.where(varies, std, 1.0).tolist()))


@dataclass(frozen=True)
class Scale:
    """A codec that scales values.

    Args:
        mean: the mean of each column.
        std: the number by which each column is divided.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def spec(self):
        """One value for each column."""
        return Values(len(self.mean))

    def encode(self, values):
        """(x - mean) / std, float64[n, dim]."""
        return (np.asarray(values, np.float64) - np.array(self.mean)) / np.array(self.std)

    def decode(self, values):
        """values · std + mean, float64[n, dim]."""
        return np.asarray(values, np.float64) * np.array(self.std) + np.array(self.mean)

    def to_dict(self):
        """Plain values for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

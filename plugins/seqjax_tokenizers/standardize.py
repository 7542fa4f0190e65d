"""Series scaled to mean 0 and standard deviation 1."""

from dataclasses import dataclass

import numpy as np

from seqjax import Error, Series, Tokenizer, Values, register


@register("tokenizer", "standardize")
@dataclass(frozen=True)
class Standardize(Tokenizer):
    """Reads (x - mean) / std of each column of a series, with the statistics of the training split.

    What is decoded, such as a forecast, is in the series' own units. A column that is constant in the training split is
    divided by 1.
    """

    def fit(self, data):
        """The codec of a series."""
        if not isinstance(data, Series):
            raise Error(
                f"tokenizer standardize scales a series, and the dataset is a {type(data).__name__}\n"
                "Leave the tokenizer out, or choose one that splits text"
            )
        x = data.values
        if not len(x):
            raise Error("tokenizer standardize: the training split is empty")
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = x.mean(0), x.std(0)
        if not np.isfinite(std).all():
            raise Error("tokenizer standardize: the values are too large for their squares; scale them down")
        varies = (x.max(0) > x.min(0)) & (std > 0)  # rounding gives a constant a small deviation, or a small one 0
        return Scale(tuple(mean.tolist()), tuple(np.where(varies, std, 1.0).tolist()))

    def load(self, saved):
        """The codec whose `to_dict` gave `saved`."""
        return Scale(tuple(saved["mean"]), tuple(saved["std"]))


@dataclass(frozen=True)
class Scale:
    """A codec of series, one entry of `mean` and `std` a column."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def spec(self):
        """As many values as there are columns."""
        return Values(len(self.mean))

    def encode(self, values):
        """(x - mean) / std, float64[n, dim]."""
        return (np.asarray(values, np.float64) - np.array(self.mean)) / np.array(self.std)

    def decode(self, values):
        """The series' own units, float64[n, dim]."""
        return np.asarray(values, np.float64) * np.array(self.std) + np.array(self.mean)

    def to_dict(self):
        """Plain values for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

"""Several generated series as one `Series`, each of which is a document."""

import numpy as np

from seqjax import Series


def normalised(x_TN: np.ndarray, source: str) -> Series:
    """N series of one column, one after the other, which have mean 0 and variance 1 together.

    Each of them on its own would become another function of the same map, and no model of all of them could reach the
    floor.

    Args:
        x_TN: float64[T, N], one column for each series.
        source: the name of the dataset.
    """
    x_TN = (x_TN - x_TN.mean()) / x_TN.std()
    num_steps, num_series = x_TN.shape
    return Series(x_TN.T.ravel(), ("x",), source, np.arange(num_series + 1) * num_steps)

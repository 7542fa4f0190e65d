"""Chooses the devices over which the rows of a batch are sharded."""

import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from seqjax.errors import Error

ROWS = "rows"
"""The name of the mesh axis over which the rows of a batch are sharded."""


def num_cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_mesh(batch_size: int, devices: int | None = None) -> Mesh:
    """A mesh of the devices over which the rows of a batch are sharded.

    Args:
        batch_size: the number of rows.
        devices: the number of devices; None: the largest number that divides the batch.

    Raises:
        Error: there are fewer devices, or their number does not divide the batch.
    """
    found = jax.devices()
    if devices is None:
        devices = max(n for n in range(1, len(found) + 1) if batch_size % n == 0)
    if not 1 <= devices <= len(found) or batch_size % devices:
        raise Error(f"devices = {devices} must divide batch_size = {batch_size} and be at most {len(found)}")
    return Mesh(np.array(found[:devices]), (ROWS,), axis_types=(AxisType.Auto,))

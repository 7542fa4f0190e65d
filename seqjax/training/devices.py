"""Chooses how many devices train, and which ones; `epoch.py` divides the rows of a batch among them."""

import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from seqjax.errors import Error, is_whole
from seqjax.training.join import num_on_this_host

ROWS = "rows"
"""The name of the mesh axis over which the rows of a batch are sharded."""


def num_cores() -> int:
    """The number of CPU cores for this process: its share, if other processes of the run are on the same host."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = os.environ.get("SLURM_CPUS_PER_TASK", "")  # Slurm may show a job more cores than it was given
    return min(int(own), seen) if own.isdecimal() and int(own) else max(1, seen // num_on_this_host())


def usable_devices(batch_size: int) -> list[int]:
    """The numbers of devices that divide a batch, equally many of each process."""
    count = jax.process_count()
    most = count * min(len(jax.local_devices(process_index=n)) for n in range(count))
    return [n for n in range(count, most + 1, count) if batch_size % n == 0]


def make_mesh(batch_size: int, devices: int | None = None) -> Mesh:
    """A mesh of the devices over which the rows of a batch are sharded, equally many of each process.

    Args:
        batch_size: the number of rows.
        devices: the number of devices of all processes; None: the largest number that divides the batch.

    Raises:
        Error: there are fewer devices, or their number does not divide the batch, or the processes cannot share it.
    """
    count, usable = jax.process_count(), usable_devices(batch_size)
    if devices is None:
        devices = max(usable, default=count)
    if not is_whole(devices) or devices not in usable:
        shared = "" if count == 1 else f", and be a multiple of the number of processes, {count}"
        raise Error(
            f"devices = {devices!r:.80} must be a whole number that divides batch_size = {batch_size}{shared}\n"
            f"Numbers of devices that can be used here: {', '.join(map(str, usable)) or 'none'}"
        )
    chosen = [device for n in range(count) for device in jax.local_devices(process_index=n)[: devices // count]]
    return Mesh(np.array(chosen), (ROWS,), axis_types=(AxisType.Auto,))

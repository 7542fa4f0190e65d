"""What an experiment requires of a device that need not be here, from its compiled program."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from seqjax.accelerators.reading import read
from seqjax.accelerators.targets import Target, target
from seqjax.errors import Error
from seqjax.training.devices import ROWS
from seqjax.training.epoch import compiled_epoch, shapes_on_devices
from seqjax.training.first_call import FirstCall

OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED.*?\(([\d.]+)([KMG])\) exceeds", re.DOTALL)
"""What the compiler of a TPU says of a program that does not fit."""


class Requirements(NamedTuple):
    """What the program of an experiment requires of each device.

    Args:
        target: the name of the devices.
        num_devices: their number.
        memory: the bytes of a device that a program can have.
        rows: the rows of a batch on each device.
        arguments: the bytes of parameters, states and data.
        temporaries: the bytes of what is computed in between, at the most.
        launches: the kernels that an update launches; None: the text of the program does not say it, or it does not
            fit.
    """

    target: str
    num_devices: int
    memory: int
    rows: int
    arguments: int
    temporaries: int
    launches: int | None

    @property
    def fits(self) -> bool:
        """Whether the program fits into the memory of a device."""
        return self.arguments + self.temporaries <= self.memory

    @property
    def rows_that_fit(self) -> int:
        """About how many rows fit on a device, if the temporaries are proportional to the rows."""
        return int(self.rows * max(self.memory - self.arguments, 0) / self.temporaries)


def requirements_of(call: FirstCall, name: str) -> Requirements:
    """What the program of a first call requires of the devices with this name, as `target` takes it.

    Raises:
        Error: there is no such target; its compiler is not installed; its devices do not divide the batch.
    """
    devices, batch_size = target(name), call.shapes.plan.starts.shape[1]
    rows, rest = divmod(batch_size, len(devices.devices))
    if rest:
        raise Error(
            f"target {name} has {len(devices.devices)} devices, which do not divide batch_size = {batch_size}\n"
            "Use another --sampler.batch-size, or a target with fewer devices"
        )
    begin = (devices.name, len(devices.devices), devices.memory, rows)
    try:
        compiled = compile_on(devices, call)
    except jax.errors.JaxRuntimeError as fault:
        if not (found := OUT_OF_MEMORY.search(str(fault))):
            raise
        of_arguments = sum(_bytes_on_a_device(a) for a in jax.tree.leaves(arguments_on(devices, call)))
        temporaries = int(float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30}[found[2]])
        return Requirements(*begin, of_arguments, temporaries, None)
    usage: Any = compiled.memory_analysis()
    of_arguments = usage.argument_size_in_bytes
    # A TPU's `temp_size_in_bytes` is not what it needs at a time.
    temporaries = usage.peak_memory_in_bytes - of_arguments
    updates = [loop for loop in read(compiled.as_text()).loops if loop.trips is None]
    launches = updates[-1].kernels if devices.platform == "cuda" else None
    return Requirements(*begin, of_arguments, temporaries, launches)


def compile_on(devices: Target, call: FirstCall) -> Any:
    """The program of an epoch, compiled for these devices, over which the rows are spread."""
    program = dataclasses.replace(call.shapes.program, mesh=_mesh(devices))
    return devices.compile(compiled_epoch, *arguments_on(devices, call), program=program)


def arguments_on(devices: Target, call: FirstCall) -> list[Any]:
    """The arguments of `compiled_epoch`, without its program, as shapes on these devices."""
    return [shapes_on_devices(each, _mesh(devices)) for each in call.shapes[:-1]]


def _mesh(devices: Target) -> Mesh:
    return Mesh(np.array(devices.devices), (ROWS,))


def _bytes_on_a_device(a: Any) -> int:
    return int(np.prod(a.sharding.shard_shape(a.shape))) * a.dtype.itemsize

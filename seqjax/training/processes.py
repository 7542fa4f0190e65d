"""What the processes that train one run exchange. With a single process, nothing is sent."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather
from jax.sharding import NamedSharding, PartitionSpec

from seqjax.errors import Error


def is_first() -> bool:
    """Whether this is process 0, which alone reads and writes the folder of a run."""
    return jax.process_index() == 0


def exchange(value: Any) -> list[Any]:
    """The values of all processes, in their order. All processes call it, each with a value that JSON can hold."""
    if jax.process_count() == 1:
        return [value]
    data = json.dumps(value).encode()
    sizes = process_allgather(np.int32(len(data)))
    # A power of two, so that few sizes are compiled.
    row = np.zeros(1 << int(sizes.max()).bit_length(), np.uint8)
    row[: len(data)] = np.frombuffer(data, np.uint8)
    rows = process_allgather(row)
    return [json.loads(rows[n, :size].tobytes()) for n, size in enumerate(sizes)]


def from_first(value: Any) -> Any:
    """The value of process 0, which JSON can hold. All processes call it."""
    return exchange(value if is_first() else None)[0]


def bytes_from_first(data: bytes) -> bytes:
    """The bytes of process 0. All processes call it; those that the others give are ignored."""
    row = np.zeros(from_first(len(data)), np.uint8)
    if is_first():
        row[:] = np.frombuffer(data, np.uint8)
    return np.asarray(broadcast_one_to_all(row)).tobytes()


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """A context at whose end an `Error` of one process is raised in all. It has no collective operations inside."""
    fault: Error | None = None
    try:
        yield
    except Error as error:
        if jax.process_count() == 1:
            raise
        fault = error
    names = ("message", "problems", "exit_code")
    mine = None if fault is None else {name: getattr(fault, name) for name in names}
    for theirs in exchange(mine):
        if theirs is not None:
            shared = Error(**theirs)
            shared.in_all = True  # type: ignore[attr-defined]
            raise shared from fault


def whole[T](tree: T) -> T:
    """A tree whose arrays are each whole on a device of this process. All processes call it."""

    def one(leaf):
        if getattr(leaf, "is_fully_addressable", True):  # also what is no array of JAX
            return leaf
        if not leaf.is_fully_replicated:
            # Not `device_put`, which does not take keys that are spread over processes.
            everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
            leaf = jax.jit(jax.numpy.copy, out_shardings=everywhere)(leaf)
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)


def place(array: Any, sharding: NamedSharding) -> jax.Array:
    """An array that is equal in all processes, on the devices of a sharding, which are those of several processes.

    `jax.device_put` would also compare the arrays of all processes at each call.
    """
    if isinstance(array, jax.Array) and jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = place(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    host = np.asarray(array)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

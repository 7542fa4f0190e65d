"""Brings the data of a training to the devices, chunk by chunk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from seqjax.data.sampler import Plan, draw_plan, shard_edges
from seqjax.data.stream import Stream
from seqjax.data.windows import gather_windows, past_warmup
from seqjax.training.epoch import to_devices
from seqjax.training.setup import TrainingSetup

CHUNK_STEPS = 2**18
"""Time steps of a chunk, summed over its rows. Training may be interrupted, and its state saved, after each chunk."""
DEVICE_BYTES = 2**28
"""The size in bytes from which a stream stays on the host, and the windows of one chunk at a time go to the devices."""


class Chunk(NamedTuple):
    """Some batches of an epoch.

    Args:
        epoch: its number.
        plan: the batches. The plans of all chunks of an epoch are equally long, so that one program serves them.
        num_batches: the number of its batches that are trained, the first ones; the others repeat the last one of them.
        stop: the number of updates after them.
        is_last: whether they complete the epoch.
    """

    epoch: int
    plan: Plan
    num_batches: Any
    stop: int
    is_last: bool


def chunks(setup: TrainingSetup, bounds: Any, warmup: int, num_runs: int = 1, done: int = 0) -> Iterator[Chunk]:
    """The chunks of all epochs from update `done` on.

    Args:
        setup: how the model is trained.
        bounds: those of the stream.
        warmup: the number of steps after a reset that are not scored.
        num_runs: the number of runs side by side; chunks are shorter by this factor.
        done: the number of updates that were made before.
    """
    sampler = setup.sampler
    size = max(1, CHUNK_STEPS // (num_runs * sampler.batch_size * sampler.num_steps))
    first, num_shards = 0, len(shard_edges(bounds)) - 1
    for epoch in range(setup.epochs):
        for shard in range(num_shards):
            plan = draw_plan(sampler, bounds, setup.seed, epoch, shard)
            # Before chunking: a chunk cannot see earlier resets, from which the warm-up counts.
            plan = past_warmup(plan, warmup, sampler.num_steps) if warmup else plan
            last = first + len(plan.starts)
            length = min(size, len(plan.starts))
            while done < last:
                # Chunks end at multiples of `size` from the start of the plan, so that a resumed run is cut into the
                # same chunks as an uninterrupted one.
                stop = min(last, first + (done - first) // size * size + size)
                batches = np.minimum(np.arange(done, done + length), stop - 1) - first
                part = jax.tree.map(lambda a, batches=batches: a[batches], plan)
                yield Chunk(epoch, part, stop - done, stop, stop == last and shard == num_shards - 1)
                done = stop
            first = last


def feed(planned: Iterator[Chunk], stream: Stream, num_steps: int, mesh: Mesh) -> Iterator[tuple[Chunk, Stream]]:
    """The chunks, and the data that their plans read, on the devices.

    The windows of a large stream are read while the devices compute the chunk before them.

    Args:
        planned: the chunks.
        stream: the data.
        num_steps: T.
        mesh: the devices.
    """

    def placed(chunk):
        plan, num_batches = to_devices(chunk.plan, mesh), to_devices(np.int32(chunk.num_batches), mesh)
        return chunk._replace(plan=plan, num_batches=num_batches)

    if sum(side.nbytes for side in stream if side is not None) <= DEVICE_BYTES:
        whole = on_devices(stream, mesh)
        for chunk in planned:
            yield placed(chunk), whole
        return

    def read():
        chunk = next(planned, None)
        if chunk is None:
            return None
        part, plan = gather_windows(stream, chunk.plan, num_steps)
        return chunk._replace(plan=plan), part

    # Not `with`: if the generator is still open when Python ends, it is closed after the module of threads.
    pool = ThreadPoolExecutor(1)
    ahead = pool.submit(read)
    while (one := ahead.result()) is not None:
        ahead = pool.submit(read)
        chunk, part = one
        yield placed(chunk), on_devices(part, mesh)


def on_devices(stream: Stream, mesh: Mesh) -> Stream:
    """A stream without its bounds, on the devices of a mesh."""
    return to_devices(stream._replace(bounds=None), mesh)

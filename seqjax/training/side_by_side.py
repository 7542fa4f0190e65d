"""Trains several runs in one compiled call, which differ in the seed and in numbers of the optimizer."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.stream import Stream, check_stream
from seqjax.gradients.contract.problem import Problem
from seqjax.training.epoch import EpochArguments, compiled_epochs
from seqjax.training.feed import chunks, on_devices
from seqjax.training.first_call import count_updates, first_plan, in_precision, program_of
from seqjax.training.initial import InitialState
from seqjax.training.loop import Diverged, Outcome, divergence, timed_call
from seqjax.training.progress import ChunkResult, Progress
from seqjax.training.setup import TrainingSetup


def train_side_by_side(
    problem: Problem, stream: Stream, setups: Sequence[TrainingSetup], fields: dict[str, list[float]]
) -> Iterator[list[Outcome]]:
    """Trains R runs on one device in one compiled call, and yields their outcomes after every chunk.

    On an accelerator a small model leaves most of the device idle, and R runs take little longer than one. On a CPU it
    is not faster. The time of a chunk is divided equally among the runs.

    Args:
        problem: the problem to train.
        stream: the data.
        setups: how each run is trained. They differ only in the seed and in fields of the optimizer, and their epochs
            have the same number of batches.
        fields: name -> R values, the fields of the optimizer that differ.

    Yields:
        For each run its outcome. That of a run that has diverged stays the same.
    """
    stream, num_runs = check_stream(stream), len(setups)
    problem = in_precision(problem, setups[0])
    num_updates = count_updates(setups[0], stream, first_plan(problem, stream, setups[0]))
    each = [InitialState(problem, setup, num_updates, x=stream.like).compute() for setup in setups]
    program, numbers = program_of(problem, setups[0], num_updates, each[0].params)
    numbers = {name: jnp.full(num_runs, value) for name, value in numbers.items()}
    numbers |= {name: jnp.asarray(column) for name, column in fields.items()}
    states, whole = _stack(each), on_devices(stream, program.mesh)
    outcomes: list[Outcome] = [(state, Progress()) for state in each]
    chunks_of_each = (chunks(setup, stream.bounds, problem.warmup, num_runs) for setup in setups)
    for together in zip(*chunks_of_each, strict=True):
        plans = _stack([chunk.plan for chunk in together])
        call = EpochArguments(states, whole, plans, np.int32(together[0].num_batches), numbers, program)
        states, result = timed_call(compiled_epochs, call)
        for i, (chunk, outcome) in enumerate(zip(together, outcomes, strict=True)):
            if isinstance(outcome, Diverged):
                continue
            _, progress = outcome
            progress = progress.after(chunk, _result_of_one(result, i, num_runs))
            state = jax.tree.map(lambda a, i=i: a[i], states)
            good = int(state.update) == chunk.stop
            outcomes[i] = (state, progress) if good else divergence(state, progress, chunk)
        yield outcomes


def _result_of_one(result: ChunkResult, index: int, num_runs: int) -> ChunkResult:
    """The result of one of the runs that were trained side by side, each of which took an equal share of the time."""
    updates = {name: values[index] for name, values in result.updates.items()}
    return ChunkResult(updates, result.compile_seconds / num_runs, result.seconds / num_runs)


def _stack[T](trees: Sequence[T]) -> T:
    """Stacks trees of equal structure: the leaves have a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

"""The first call of a compiled epoch: what it needs is checked and made before the first chunk."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.sampler import Plan, draw_plan, shard_edges
from seqjax.data.stream import Stream
from seqjax.data.windows import past_warmup
from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params, Problem, check_problem
from seqjax.models.check import check_bare_problem, fitting
from seqjax.training.devices import make_mesh
from seqjax.training.epoch import EpochArguments, Program, TrainState, copy_of, shapes_on_devices, to_devices
from seqjax.training.feed import chunks, feed
from seqjax.training.initial import InitialState
from seqjax.training.optimizer import Builder, Optimizer, numbers_of
from seqjax.training.setup import TrainingSetup


class FirstCall(NamedTuple):
    """The first call of `compiled_epoch`.

    Args:
        num_updates: the number of updates of the whole training.
        shapes: its arguments, with shapes and dtypes in place of the state; its program can be lowered with them.
        make: returns its arguments.
    """

    num_updates: int
    shapes: EpochArguments
    make: Callable[[], EpochArguments]


def first_call(
    problem: Problem,
    stream: Stream,
    setup: TrainingSetup,
    params: Params | None = None,
    state: TrainState | None = None,
    here: bool = True,
) -> FirstCall:
    """The first call of `compiled_epoch`.

    Args:
        problem: as in `train_in_chunks`.
        stream: as there.
        setup: as there.
        params: as there.
        state: as there.
        here: whether it may be made on this machine. Otherwise its memory is not checked, and nothing is compiled.
    """
    check_problem("train", problem)
    problem = in_precision(problem, setup)
    plan = first_plan(problem, stream, setup)
    num_updates = count_updates(setup, stream, plan)
    with fitting(problem, params) if params is not None else contextlib.nullcontext():
        if state is None:
            initial = InitialState(problem, setup, num_updates, params, stream.like)
            if here:
                initial.compile()
            shapes, compute = initial.shapes, initial.compute
        else:
            shapes, compute = state, lambda: state
        check_bare_problem(problem, shapes.params, shapes.carry, stream, plan.starts[0])
    program, numbers = program_of(problem, setup, num_updates, shapes.params)
    mesh = program.mesh
    first = itertools.islice(chunks(setup, stream.bounds, problem.warmup), 1)
    ((chunk, part),) = feed(first, stream, program.num_steps, mesh)
    arguments = EpochArguments(
        shapes_on_devices(shapes, mesh), part, chunk.plan, chunk.num_batches, to_devices(numbers, mesh), program
    )
    # The copy is donated, so that the caller's arrays stay valid.
    return FirstCall(num_updates, arguments, lambda: arguments._replace(state=to_devices(copy_of(compute()), mesh)))


def in_precision(problem: Problem, setup: TrainingSetup) -> Problem:
    """The problem in the precision in which its steps are computed."""
    return problem.in_bfloat16() if setup.precision == "bfloat16" and setup.gradient.rounds else problem


def first_plan(problem: Problem, stream: Stream, setup: TrainingSetup) -> Plan:
    """The plan of the first epoch; an error if none of its steps is scored."""
    if stream.mask is not None and not np.any(stream.mask):
        raise Error("nothing is scored: the mask of the training part is False everywhere")
    num_steps = setup.sampler.num_steps
    plan = draw_plan(setup.sampler, stream.bounds, setup.seed, 0)
    if not _scored_windows(problem, stream, plan, num_steps).any():
        raise Error(
            f"nothing is scored: the first {problem.warmup} outputs after a reset are the warm-up of the model, "
            f"and no window of num_steps = {num_steps} is longer\n"
            "Use longer windows (--sampler.num-steps), or a model with less warm-up, such as fewer --model.lags"
        )
    return plan


def _scored_windows(problem: Problem, stream: Stream, plan: Plan, num_steps: int) -> np.ndarray:
    """The windows of a plan that have a scored step, bool[N, B]."""
    if problem.warmup:
        plan = past_warmup(plan, problem.warmup, num_steps)
    first, last = np.moveaxis(np.asarray(plan.scored), -1, 0)
    if stream.mask is None:
        return first < last
    before = np.pad(np.cumsum(np.asarray(stream.mask, np.int64)), (1, 0))
    return before[plan.starts + last] > before[plan.starts + np.minimum(first, last)]


def count_updates(setup: TrainingSetup, stream: Stream, plan: Plan) -> int:
    """The number of updates of the whole training, on which schedules depend, from the plan of the first epoch."""
    of_epoch = (len(shard_edges(stream.bounds)) - 1) * len(plan.starts)
    if setup.epochs * of_epoch >= 2**31:
        raise Error(
            f"epochs = {setup.epochs} of {of_epoch:,} updates are {setup.epochs * of_epoch:,} updates; training "
            "counts them below 2^31"
        )
    return setup.epochs * of_epoch


def program_of(
    problem: Problem, setup: TrainingSetup, num_updates: int, params: Params
) -> tuple[Program, dict[str, jax.Array]]:
    """The program of all epochs, and the numbers of the optimizer that are its arguments.

    Args:
        problem: the problem to train.
        setup: how it is trained.
        num_updates: the number of updates of the whole training.
        params: the parameters, or their shapes and dtypes.
    """
    optimizer: Any = setup.optimizer
    numbers: dict[str, float | int] = {}
    if isinstance(optimizer, Optimizer):
        numbers = numbers_of(optimizer, num_updates, params)
        optimizer = Builder.of(optimizer, num_updates, numbers)
    program = Program(
        problem=problem,
        gradient=setup.gradient,
        optimizer=optimizer,
        num_steps=setup.sampler.num_steps,
        mesh=make_mesh(setup.sampler.batch_size, setup.devices),
        identity=None if problem.is_value else object(),
    )
    return program, {name: jnp.asarray(value, type(value)) for name, value in numbers.items()}

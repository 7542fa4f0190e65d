"""Training the runs of a sweep side by side: one compiled call for many seeds and optimizer settings.

On an accelerator a small model leaves most of the device idle, and runs side by side cost little more than one. On a
CPU they gain nothing, and are made one after the other.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import folder
from seqjax.data import check_plan, past_context
from seqjax.devices import make_mesh
from seqjax.epoch import Static, TrainState, place, run_epoch
from seqjax.execute import Recorder, begin, check, finish, keep_last_good, make_ready
from seqjax.experiment import Experiment
from seqjax.interrupt import leave, noticed
from seqjax.run import Run
from seqjax.train import CHUNK_STEPS, Progress, add_updates, diverged, epoch_rng, init_train_state, timed_call


def varied_floats(experiments: Sequence[Experiment]) -> dict[str, list[float]] | None:
    """The optimizer's float fields that differ between experiments which differ in nothing else but the seed.

    None where they differ in more, or their optimizers have states of different structure, as with and without a
    warm-up, so that one compiled call cannot train them all.
    """
    optimizers: list[Any] = [experiment.optimizer for experiment in experiments]
    if len(set(map(type, optimizers))) > 1:
        return None
    columns = {f.name: [getattr(o, f.name) for o in optimizers] for f in dataclasses.fields(optimizers[0])}
    floats = {
        name: column
        for name, column in columns.items()
        if len(set(column)) > 1 and all(isinstance(value, float) for value in column)
    }
    plain = {name: column[0] for name, column in floats.items()}
    rest = [
        dataclasses.replace(experiment, seed=0, optimizer=dataclasses.replace(optimizer, **plain))
        for experiment, optimizer in zip(experiments, optimizers, strict=True)
    ]
    if any(experiment != rest[0] for experiment in rest):
        return None
    states = [jax.eval_shape(optimizer.build(1).init, jnp.zeros(())) for optimizer in optimizers]
    return floats if len(set(map(jax.tree.structure, states))) == 1 else None


def execute_together(
    experiments: Sequence[Experiment], paths: Sequence[Path | None], checkpoint_seconds: float
) -> list[Run] | None:
    """The runs of new experiments, trained side by side on one device; None where that is not possible.

    It is possible where they differ in the seed and in float fields of the optimizer alone, none has begun, and their
    epochs have equally many batches. The time that it takes is shared out evenly among them.
    """
    floats = varied_floats(experiments)
    if floats is None:
        return None
    runs = [make_ready(experiment, path) for experiment, path in zip(experiments, paths, strict=True)]
    check(runs[0], 1)  # from which the others differ in numbers alone
    if not _equal_epochs(runs):
        return None
    with contextlib.ExitStack() as locks:
        for path in paths:
            if path is not None:
                locks.enter_context(folder.lock(path))
        if any(state is not None for state, _ in [begin(run, 1) for run in runs]):
            return None
        interrupted = locks.enter_context(noticed() if None not in paths else contextlib.nullcontext(lambda: None))
        _train(runs, floats, checkpoint_seconds, interrupted)
    return runs


def _plans(runs, epoch):
    """The plans of all runs for an epoch."""
    sampler, bounds = runs[0].experiment.sampler, runs[0].prepared.streams["train"].bounds
    plans = [sampler.plan(bounds, epoch_rng(run.experiment.seed, epoch)) for run in runs]
    return [check_plan(plan, sampler, bounds[-1]) for plan in plans]


def _equal_epochs(runs):
    """Whether the epochs of all runs have equally many batches."""
    return all(
        len({len(plan.starts) for plan in _plans(runs, epoch)}) == 1 for epoch in range(runs[0].experiment.epochs)
    )


def _train(runs, floats, checkpoint_seconds, interrupted):
    e, problem = runs[0].experiment, runs[0].problem
    mesh = make_mesh(e.sampler.batch_size, 1)
    stream = place(runs[0].prepared.streams["train"]._replace(bounds=None), mesh)
    num_updates = e.epochs * len(_plans(runs[:1], 0)[0].starts)
    static = Static(problem, e.gradient, e.optimizer, num_updates, e.sampler.num_steps, mesh)
    states = _stack(
        [
            init_train_state(
                problem, e.gradient, run.experiment.optimizer, num_updates, e.sampler.batch_size, run.experiment.seed
            )
            for run in runs
        ]
    )
    values = {name: jnp.asarray(column) for name, column in floats.items()}
    recorders = [Recorder(run, checkpoint_seconds) for run in runs]
    progresses, last = [Progress()] * len(runs), 0
    good = [True] * len(runs)
    size = max(1, CHUNK_STEPS // (len(runs) * e.sampler.batch_size * e.sampler.num_steps))
    for epoch in range(e.epochs):
        plans = [past_context(plan, problem.context, e.sampler.num_steps) for plan in _plans(runs, epoch)]
        plan = _stack(plans)
        progresses = [progress.next_epoch(epoch) for progress in progresses]
        for first in range(0, plan.starts.shape[1], size):
            chunk = jax.tree.map(lambda a, rows=slice(first, first + size): a[:, rows], plan)
            states, updates, seconds = timed_call(_compiled, (states, values, stream, chunk, static))
            last += chunk.starts.shape[1]
            done = first + size >= plan.starts.shape[1]
            exit_code = interrupted()
            for i, recorder in enumerate(recorders):
                if not good[i]:
                    continue
                mine = {name: values[i] for name, values in updates.items()}
                progresses[i] = add_updates(progresses[i], mine, [s / len(runs) for s in seconds])._replace(done=done)
                state = jax.tree.map(lambda a, i=i: a[i], states)
                good[i] = int(state.update) == last
                if good[i]:
                    recorder.add(state, progresses[i])
                    if exit_code and not runs[i].finished:
                        recorder.save(state, progresses[i])
                else:
                    keep_last_good(runs[i], diverged(state, progresses[i], last))
            if exit_code and any(fine and not run.finished for run, fine in zip(runs, good, strict=True)):
                leave(f"interrupted at update {last:,} of {len(runs)} runs, and saved", exit_code)
    for run, fine in zip(runs, good, strict=True):
        if fine:
            finish(run)
    if exit_code := interrupted():  # too late for these runs, but not for what may follow them
        leave(f"interrupted when {len(runs)} runs had come to their end; they are saved", exit_code)


@functools.partial(jax.jit, static_argnames="static", donate_argnames="states")
def _compiled(states: TrainState, floats: dict[str, Any], stream: Any, plans: Any, static: Static) -> Any:
    """`run_epoch` of every run."""

    def one(state, floats, plan):
        optimizer: Any = static.optimizer
        tx = dataclasses.replace(optimizer, **floats).build(static.num_updates)
        return run_epoch(static.problem, static.gradient, tx, state, stream, plan, static.num_steps)

    return jax.vmap(one)(states, floats, plans)


def _stack(trees):
    return jax.tree.map(
        lambda *leaves: np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves), *trees
    )

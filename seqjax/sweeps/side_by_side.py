"""Trains runs side by side that differ only in the seed and in numbers of the optimizer."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.data.sampler import draw_plan
from seqjax.plugin.base import values_of
from seqjax.runs.job import prepare
from seqjax.runs.listen import Listener, Training, listen
from seqjax.runs.run import Experiment, Run, run_of
from seqjax.runs.saving import Saving, locked_folder
from seqjax.runs.tracking.mirror import SafeMirror
from seqjax.sweeps.launching.jobs import JobOptions
from seqjax.sweeps.planning import Planned
from seqjax.training.fit import GradientDescent
from seqjax.training.optimizer import Optimizer
from seqjax.training.side_by_side import train_side_by_side


def run_side_by_side(
    planned: Mapping[str, Planned],
    paths: Mapping[str, Path | None],
    options: JobOptions,
    show: Callable[[str], None] = lambda text: None,
) -> dict[str, Run]:
    """Trains side by side the new runs that differ only in the seed and in settings of the optimizer.

    A run that starts from the parameters of another run is left out, since runs side by side draw their own.

    Args:
        planned: the planned runs by name.
        paths: the folder of each run; None: in memory.
        options: the options of each run.
        show: shows how far they are.
    """
    new = {
        name: plan.experiment
        for name, plan in planned.items()
        if isinstance(plan.experiment.fit(), GradientDescent)
        and plan.experiment.init_from is None
        and ((path := paths[name]) is None or not path.exists())
    }
    runs: dict[str, Run] = {}
    while new:
        first = next(iter(new.values()))
        group = {name: e for name, e in new.items() if varied_floats([first, e]) is not None}
        new = {name: e for name, e in new.items() if name not in group}
        fields = varied_floats(list(group.values()))
        if fields is not None and _have_equal_epochs(list(group.values())):
            head = f"{len(group)} runs side by side"
            callback = lambda run, head=head: show(f"{head}: {epoch_words(run)}")
            made = train_group(list(group.values()), [paths[name] for name in group], fields, options, callback)
            runs |= dict(zip(group, made, strict=True))
    return runs


def epoch_words(run: Run) -> str:
    """How far a run is, in words."""
    return f"epoch {len(run.metrics)} of {run.experiment.epochs}"


def train_group(
    experiments: Sequence[Experiment],
    paths: Sequence[Path | None],
    fields: dict[str, list[float]],
    options: JobOptions,
    callback: Callable[[Any], Any] | None = None,
) -> list[Run]:
    """The runs of new experiments, trained side by side on one device.

    Args:
        experiments: the experiments, which differ only in the seed and in fields of the optimizer.
        paths: the folder of each run, in which there is none yet; None: in memory.
        fields: the fields of the optimizer that differ, as `train_side_by_side` takes them.
        options: the options of each run.
        callback: called with each run after each of its epochs, as in `Experiment.run`.
    """
    jobs = [prepare(experiment, devices=1) for experiment in experiments]
    jobs[0].train()  # raises its errors early; the other runs differ only in numbers
    trainings = []
    with contextlib.ExitStack() as stack:
        for job, path in zip(jobs, paths, strict=True):
            run = run_of(job, path)
            listeners: list[Listener] = []
            if path is not None:
                stack.enter_context(locked_folder(path, job, None))
                listeners.append(Saving(run, path))
            if path is not None and options.tracker is not None:
                listeners.append(stack.enter_context(SafeMirror(run, options.tracker, path)))
            trainings.append(Training(run, job.fit, listeners, callback))
        setups = [experiment.setup(1) for experiment in experiments]
        chunks = train_side_by_side(jobs[0].problem, jobs[0].data.streams["train"], setups, fields)
        listen(chunks, trainings, options.checkpoint_seconds)
    return [training.run for training in trainings]  # type: ignore[misc]


def varied_floats(experiments: Sequence[Experiment]) -> dict[str, list[float]] | None:
    """The float fields of the optimizer in which experiments differ, if one compiled call can train them all.

    None if they differ in more than these fields and the seed, or if the states of their optimizers differ in
    structure, as with and without a warm-up.
    """
    optimizers: list[Any] = [experiment.optimizer for experiment in experiments]
    if len(set(map(type, optimizers))) > 1 or not isinstance(optimizers[0], Optimizer):
        return None
    columns = {name: [getattr(o, name) for o in optimizers] for name in values_of(optimizers[0])}
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


def _have_equal_epochs(experiments: Sequence[Experiment]) -> bool:
    """Whether every epoch has the same number of batches in all experiments, which share their data."""
    setup = experiments[0].setup()
    bounds = experiments[0].prepare().streams["train"].bounds
    return all(
        len({len(draw_plan(setup.sampler, bounds, e.seed, epoch).starts) for e in experiments}) == 1
        for epoch in range(setup.epochs)
    )

"""`seqjax run --dry-run`: describes a run without training it."""

from typing import Any

import jax

from seqjax.data.sampler import draw_plan
from seqjax.errors import Error
from seqjax.models.check import check_model
from seqjax.plugin.author import mistakes_of
from seqjax.runs import progress
from seqjax.runs.requirements import Requirements, requirements_of
from seqjax.runs.run import Experiment, job_of
from seqjax.training.epoch import compiled_epoch
from seqjax.training.first_call import FirstCall, first_call
from seqjax.training.fit import GradientDescent
from seqjax.training.metrics import resolve


def dry_run_text(experiment: Experiment, devices: int | None, target: str | None) -> str:
    """The printed text: device, dataset, model, shapes, updates and bytes of a run.

    Args:
        experiment: what would be run.
        devices: the number of devices of this machine; None: all that divide the batch.
        target: devices that need not be here, in place of those of this machine.
    """
    if target is not None and devices is not None:
        raise Error("--target says how many devices there are: leave out --devices")
    job = job_of(experiment, devices if target is None else 1)
    fit, problem, stream = job.fit, job.problem, job.data.streams["train"]
    resolve(experiment.metrics, job.data.spec)  # for its errors, which training would raise
    head = [
        f"device   {progress.device_line(fit) if target is None else f'{target} · jax {jax.__version__}'}",
        f"dataset  {progress.dataset_line(job)}",
        f"model    {fit.model_line(problem)}",
    ]
    if not isinstance(fit, GradientDescent):
        return "\n".join([*head, "nothing was counted; leave out --dry-run to count"])
    check_model(problem.model, problem.spec)
    setup = fit.setup
    with mistakes_of(setup.gradient, setup.optimizer, problem.model):
        call = first_call(problem, stream, setup, here=target is None)
        required = _here(call) if target is None else _on(requirements_of(call, target))
    scored = draw_plan(setup.sampler, stream.bounds, setup.seed, 0).scored
    updates = call.num_updates // setup.epochs
    # Of a large stream only the first shard is planned; all shards have about as many targets.
    targets = int((scored[..., 1] - scored[..., 0]).sum() / len(scored) * updates)
    shapes = [
        f"         {jax.tree_util.keystr(keys, simple=True, separator='/'):8} {leaf.dtype}{list(leaf.shape)}"
        for keys, leaf in jax.tree_util.tree_leaves_with_path(job.params_like)
    ]
    batch = f"{setup.sampler.batch_size} x {setup.sampler.num_steps}"
    return "\n".join(
        [
            *head,
            *shapes,
            f"epoch    {updates:,} updates of {batch} steps, {targets:,} of {len(stream.inputs):,} targets; "
            f"{setup.epochs} epochs, about {updates * setup.epochs:,} updates",
            *required,
            "nothing was trained; leave out --dry-run to train",
        ]
    )


def _here(call: FirstCall) -> list[str]:
    """The bytes of a run on the devices of this machine."""
    usage: Any = compiled_epoch.lower(*call.shapes).compile().memory_analysis()
    return [_bytes(usage.argument_size_in_bytes, usage.temp_size_in_bytes)]


def _on(required: Requirements) -> list[str]:
    """What a run requires of other devices, and what to change if it does not fit."""
    each = "the device" if required.num_devices == 1 else f"each of {required.num_devices} devices"
    lines = [
        _bytes(required.arguments, required.temporaries),
        f"rows     {required.rows:,} on {each}; {required.memory / 1e6:,.0f} MB of a device are for a program",
    ]
    if required.launches is not None:
        lines.append(f"kernels  {required.launches:,} launches an update")
    if required.fits:
        return [*lines, "fits     yes"]
    if required.arguments > required.memory:
        advice = (
            "parameters, state and data are too large by themselves: a smaller model, or a smaller part of the data"
        )
    else:
        advice = (
            f"about {required.rows_that_fit:,} rows on each device would; use a smaller --sampler.batch-size, more "
            "devices,\n         shorter windows (--sampler.num-steps), or with the gradient full --gradient.levels 1"
        )
    return [*lines, f"fits     no: {advice}"]


def _bytes(arguments: int, temporaries: int) -> str:
    return (
        f"bytes    {arguments / 1e6:,.1f} MB for parameters, state and data, {temporaries / 1e6:,.1f} MB for "
        "temporaries, on each device"
    )

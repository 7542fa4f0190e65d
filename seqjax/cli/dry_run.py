"""`seqjax run --dry-run`: describes a run without training it."""

from typing import Any

import jax

from seqjax.data.sampler import draw_plan
from seqjax.models.check import check_model
from seqjax.plugin.author import mistakes_of
from seqjax.runs import progress
from seqjax.runs.run import Experiment, job_of
from seqjax.training.epoch import compiled_epoch
from seqjax.training.first_call import first_call
from seqjax.training.fit import GradientDescent
from seqjax.training.metrics import resolve


def dry_run_text(experiment: Experiment, devices: int | None) -> str:
    """The printed text: device, dataset, model, shapes, updates and bytes of a run."""
    job = job_of(experiment, devices)
    fit, problem, stream = job.fit, job.problem, job.data.streams["train"]
    resolve(experiment.metrics, job.data.spec)  # for its errors, which training would raise
    head = [
        f"device   {progress.device_line(fit)}",
        f"dataset  {progress.dataset_line(job)}",
        f"model    {fit.model_line(problem)}",
    ]
    if not isinstance(fit, GradientDescent):
        return "\n".join([*head, "nothing was counted; leave out --dry-run to count"])
    check_model(problem.model, problem.spec)
    setup = fit.setup
    with mistakes_of(setup.gradient, setup.optimizer, problem.model):
        call = first_call(problem, stream, setup)
        usage: Any = compiled_epoch.lower(*call.shapes).compile().memory_analysis()
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
            f"bytes    {usage.argument_size_in_bytes / 1e6:,.1f} MB for parameters, state and data, "
            f"{usage.temp_size_in_bytes / 1e6:,.1f} MB for temporaries, on each device",
            "nothing was trained; leave out --dry-run to train",
        ]
    )

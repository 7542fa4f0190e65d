"""`seqjax run --dry-run`: what a run would be, without training."""

from typing import Any

import jax

from seqjax import display
from seqjax.check import check_model
from seqjax.data import prepare
from seqjax.run import Run
from seqjax.train import epoch_memory, epoch_rng


def describe(experiment: Any, devices: int | None) -> str:
    """Shapes, sizes, updates and memory of a run, as the lines to print."""
    data = prepare(experiment.corpus, experiment.train, experiment.heldout, experiment.tokenizer)
    check_model(experiment.model, data.spec)
    run = Run(experiment, data.codec, prepared=data)
    plan = experiment.sampler.plan(data.streams["train"].bounds, epoch_rng(experiment.seed, 0))
    updates = len(plan.starts)
    targets = int((plan.scored[..., 1] - plan.scored[..., 0]).sum())
    params = jax.eval_shape(lambda: experiment.model.init(jax.random.key(0), data.spec))
    shapes = [
        f"         {jax.tree_util.keystr(keys, simple=True, separator='/'):8} {leaf.dtype}{list(leaf.shape)}"
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    e = experiment
    options = (e.sampler, e.gradient, e.optimizer, e.epochs, e.seed, devices)
    memory = epoch_memory(run.problem, data.streams["train"], *options)
    return "\n".join(
        [
            f"device   {display.device_line(run, devices)}",
            f"corpus   {display.corpus_line(run)}",
            f"model    {display.model_line(run)}",
            *shapes,
            f"epoch    {updates:,} updates of {experiment.sampler.batch_size} x {experiment.sampler.num_steps} steps, "
            f"{targets:,} of {len(data.streams['train'].inputs):,} targets",
            f"run      {experiment.epochs} epochs, about {updates * experiment.epochs:,} updates",
            f"memory   {memory.argument_size_in_bytes / 1e6:,.1f} MB parameters, state and data, "
            f"{memory.temp_size_in_bytes / 1e6:,.1f} MB temporary, a device",
            "nothing was trained; leave out --dry-run to train",
        ]
    )

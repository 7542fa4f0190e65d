"""`seqjax run --dry-run`: what a run would be, without training."""

from typing import Any

import jax
import numpy as np

from seqjax import display
from seqjax.check import check_model
from seqjax.data import prepare
from seqjax.epoch import compiled_epoch
from seqjax.run import Run
from seqjax.train import set_up


def describe(experiment: Any, devices: int | None) -> str:
    """Shapes, sizes, updates and memory of a run, as the lines to print."""
    data = prepare(experiment.corpus, experiment.train, experiment.heldout, experiment.tokenizer)
    check_model(experiment.model, data.spec)
    run = Run(experiment, data.codec, data.spec, _prepared=data)
    head = [
        f"device   {display.device_line(run, devices)}",
        f"corpus   {display.corpus_line(run)}",
        f"model    {display.model_line(run)}",
    ]
    if experiment.model.is_counted:
        return "\n".join([*head, "nothing was counted; leave out --dry-run to count"])
    e, stream = experiment, data.streams["train"]
    options = (e.sampler, e.gradient, e.optimizer, e.epochs, e.seed, None, None, devices)
    arguments = set_up(run.problem, stream, *options)
    memory: Any = compiled_epoch.lower(*arguments).compile().memory_analysis()
    scored = np.asarray(arguments[2].scored)
    updates, targets = len(scored), (scored[..., 1] - scored[..., 0]).sum()
    params = jax.eval_shape(lambda: experiment.model.init(jax.random.key(0), data.spec))
    shapes = [
        f"         {jax.tree_util.keystr(keys, simple=True, separator='/'):8} {leaf.dtype}{list(leaf.shape)}"
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    return "\n".join(
        [
            *head,
            *shapes,
            f"epoch    {updates:,} updates of {e.sampler.batch_size} x {e.sampler.num_steps} steps, "
            f"{targets:,} of {len(stream.inputs):,} targets; {e.epochs} epochs, about {updates * e.epochs:,} updates",
            f"memory   {memory.argument_size_in_bytes / 1e6:,.1f} MB parameters, state and data, "
            f"{memory.temp_size_in_bytes / 1e6:,.1f} MB temporary, a device",
            "nothing was trained; leave out --dry-run to train",
        ]
    )

"""Measures where on a CPU training is fastest: rows over all devices, or one device with threads inside products."""

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from seqjax.data.stream import Stream
from seqjax.gradients.precision import Precision
from seqjax.models.model import ModelProblem
from seqjax.plugin.config import describe
from seqjax.training.devices import make_mesh
from seqjax.training.epoch import Arguments, compiled_epoch, to_devices
from seqjax.training.loop import first_call
from seqjax.training.setup import TrainingSetup
from seqjax.user_cache import hash_of, machine_key, remembered

MIN_OPERATIONS = 1e13
"""The least number of floating-point operations of a measured training, about two minutes: each layout has to
compile."""
MIN_GAIN = 1.05
"""The least speed-up for which another layout is chosen; smaller differences are noise."""
BATCHES = 4
"""The number of batches that are timed at once."""
REPEATS = 5
"""How often they are timed, in turns. The fastest time counts, since other work only adds to it."""


class Layout(NamedTuple):
    """Where and how a training is computed.

    Args:
        devices: the number of devices over which rows are sharded; 1: one device, with threads inside its products.
        precision: the precision of its steps.
    """

    devices: int
    precision: Precision


class Choice(NamedTuple):
    """The layout in which a training is computed, chosen by measuring or given.

    Args:
        layout: the fastest one, or the one in which the training was begun.
        default: the layout that was asked for, or the default one.
        speedup: how many times as fast as the default one it was.
    """

    layout: Layout
    default: Layout
    speedup: float = 1.0

    def __str__(self) -> str:
        """How much faster the layout is than the default one; empty for the default one."""
        if self.layout == self.default:
            return ""
        here, there = (_words(layout) for layout in (self.layout, self.default))
        changed = [i for i in range(len(here)) if here[i] != there[i]]
        chosen, asked = (" and ".join(words[i] for i in changed) for words in (here, there))
        return f"{chosen}: measured {self.speedup:.2f} times as fast here as {asked}"


def _words(layout: Layout) -> tuple[str, str]:
    """The devices and the precision of a layout."""
    devices = "one device with threads" if layout.devices == 1 else f"{layout.devices} devices"
    return devices, layout.precision


def choose_layout(problem: ModelProblem, stream: Stream, setup: TrainingSetup, params: Any = None) -> Choice:
    """The layout in which a training is fastest on this machine, unless its setup names the devices.

    On a CPU with several devices, long trainings are measured for some milliseconds in each layout. A training in
    bfloat16 is measured on any CPU, and computed in float32 where that is faster. The results are kept for equal
    trainings on this machine.

    Args:
        problem: the problem to train.
        stream: the data.
        setup: how it is trained.
        params: initial parameters; None: those of the model.
    """
    precision = setup.precision if setup.gradient.rounds else "float32"
    default = Layout(make_mesh(setup.sampler.batch_size, setup.devices).size, precision)
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return Choice(default, default)
    is_long = operations(problem, stream, setup, params) >= MIN_OPERATIONS
    candidates = [default, *_others(default, setup, is_long)]
    if len(candidates) == 1:
        return Choice(default, default)
    key = hash_of(
        machine_key(), jax.__version__, describe(problem.model), str(problem.spec), describe(setup.gradient),
        # A model of another library is described by the name of its class alone.
        [np.shape(leaf) for leaf in jax.tree.leaves(params)],
        [setup.sampler.batch_size, setup.sampler.num_steps], candidates,
    )  # fmt: skip
    measure = functools.partial(_measure, candidates, problem, stream, setup, params)
    seconds = remembered("layouts", key, measure)
    best = min(range(len(candidates)), key=seconds.__getitem__)
    if seconds[0] < MIN_GAIN * seconds[best]:
        best = 0
    return Choice(candidates[best], default, seconds[0] / seconds[best])


def _others(default: Layout, setup: TrainingSetup, is_long: bool) -> list[Layout]:
    """The layouts that are compared with the default one."""
    devices = {default.devices, *([1] if is_long and setup.devices is None else [])}
    precisions = {default.precision, "float32"}
    layouts = [Layout(n, p) for n in sorted(devices, reverse=True) for p in sorted(precisions)]
    return [layout for layout in layouts if layout != default]


def operations(problem: ModelProblem, stream: Stream, setup: TrainingSetup, params: Any = None) -> float:
    """About how many floating-point operations a training takes: 6 for each parameter and each target.

    Args:
        problem: the problem to train.
        stream: the data.
        setup: how it is trained.
        params: initial parameters; None: those of the model.
    """
    params = jax.eval_shape(lambda: problem.init(jax.random.key(0))) if params is None else params
    size = sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(params))
    return 6.0 * size * len(stream.targets) * setup.epochs


def _measure(
    candidates: Sequence[Layout], problem: ModelProblem, stream: Stream, setup: TrainingSetup, params: Any
) -> list[float]:
    """The seconds of some batches in each layout."""
    calls = [_call(layout, problem, stream, setup, params) for layout in candidates]
    best = [math.inf] * len(calls)
    for _ in range(REPEATS):
        for i, arguments in enumerate(calls):
            began = time.perf_counter()
            state, updates = compiled_epoch(*arguments)
            jax.block_until_ready(updates)
            best[i] = min(best[i], time.perf_counter() - began)
            calls[i] = arguments._replace(state=state)
    return best


def _call(layout: Layout, problem: ModelProblem, stream: Stream, setup: TrainingSetup, params: Any) -> Arguments:
    """The arguments of the first batches in a layout, after one call, which compiles."""
    changed = dataclasses.replace(setup, devices=layout.devices, precision=layout.precision)
    arguments = first_call(problem, stream, changed, params)
    few = to_devices(np.int32(min(BATCHES, int(arguments.num_batches))), arguments.program.mesh)
    arguments = arguments._replace(num_batches=few)  # the program is that of the training
    state, _ = compiled_epoch(*arguments)
    return arguments._replace(state=state)

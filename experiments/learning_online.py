"""What does a stack of layers lose when it learns at every step?   python experiments/learning_online.py --seeds 3

The exact influence of all parameters on the state of one layer of `lru` is cheap to carry from step to step (`rtrl`).
With several layers, `layerwise` carries the influence of each layer on its own state, and loses that on the states
above it which begins before the window. The figures show the error of a gradient relative to that of the whole history,
by the length of the windows, where the target is the input of ten steps ago. Longer windows help `layerwise` and the
gradient of the window alone. `snap` carries an approximation for all layers, and does not depend on the windows. The
second task is to classify digits, whose 64 pixels are read in a random order, with an update after each of them. There,
the strategies differ by no more than their seeds, as in linear_recurrence.py, where an `lru` needs no gradient through
time.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import seqjax as sj
from seqjax.datasets import Digits
from seqjax.gradients import RTRL, Batch, Full, Immediate, Layerwise, SnAp, Truncated, init_memory
from seqjax.models import LRU
from seqjax.optimizers import Adam
from seqjax.report import between
from seqjax.samplers import InOrder

LAG, NUM_ROWS = 10, 2
BY_WINDOW = {"layerwise": Layerwise(), "the window alone": Full()}
THE_SAME = {"snap": SnAp(), "immediate": Immediate()}
"""The strategies whose errors do not depend on the windows."""


def errors(layers: int, hidden: int, num_steps: int, windows: tuple[int, ...], seed: int) -> dict[str, list[float]]:
    """The relative errors of the strategies by window, at the initial parameters."""
    # Factors of at least .9 remember for tens of steps.
    problem = LRU(hidden=hidden, layers=layers, r_min=0.9, r_max=0.99).problem(sj.Spec(sj.Values(1)))
    params = problem.init(jax.random.key(seed))
    numbers = np.random.default_rng(seed).normal(size=(num_steps + LAG, NUM_ROWS, 1)).astype(np.float32)
    xs = (numbers[LAG:], numbers[:-LAG])

    exact = gradient_of(Full(), problem, params, xs, num_steps)

    def error(strategy, window):
        difference = gradient_of(strategy, problem, params, xs, window) - exact
        return float(jnp.linalg.norm(difference) / jnp.linalg.norm(exact))

    by_window = {name: [error(strategy, window) for window in windows] for name, strategy in BY_WINDOW.items()}
    one = {name: error(strategy, 1) for name, strategy in THE_SAME.items()}
    return by_window | {name: [value] * len(windows) for name, value in one.items()}


@jax.jit(static_argnums=(0, 1, 4))
def gradient_of(strategy: sj.Gradient, problem: sj.Problem, params, xs, window: int) -> jax.Array:
    """The sum of the gradients of consecutive windows, as a vector; state and memory are carried between them."""
    state = problem.init_rows(params, NUM_ROWS)
    memory = init_memory(strategy, problem, params, state, NUM_ROWS)
    by_window = jax.tree.map(lambda a: a.reshape(-1, window, *a.shape[1:]), xs)
    weights = jnp.full((window, NUM_ROWS), 1 / xs[0].shape[0] / NUM_ROWS)
    rows = jnp.arange(NUM_ROWS, dtype=jnp.int32)

    def next_window(carry, xs):
        estimate = strategy(problem, params, *carry, Batch(xs, weights, None, rows))
        return (estimate.state, estimate.memory), estimate.grads

    _, grads = jax.lax.scan(next_window, (state, memory), by_window)
    return ravel_pytree(jax.tree.map(lambda a: a.sum(0), grads))[0]


def main(
    train: int | float = 0.8,
    seeds: int = 3,
    draws: int = 10,
    hidden: int = 16,
    epochs: int = 8,
    num_steps: int = 400,
    windows: tuple[int, ...] = (1, 10, 100),
) -> sj.Report:
    report = sj.Report(__file__)
    for layers in (2, 4):
        drawn = [errors(layers, hidden, num_steps, windows, seed) for seed in range(draws)]
        by_strategy = {name: np.array([values[name] for values in drawn]) for name in drawn[0]}
        for name, values in by_strategy.items():
            if name in THE_SAME:
                report.row(f"error, {layers} layers, {name}", values[:, 0])
                continue
            for window, error in zip(windows, values.T, strict=True):
                report.row(f"error, {layers} layers, windows of {window}, {name}", error)
        report.figure(
            f"{layers}_layers",
            sj.plot.averages(
                {name: (windows, values) for name, values in by_strategy.items()},
                x_label="steps of a window",
                y_label="relative error of the gradient",
                x_scale="log",
                title=f"lru, {layers} layers of {hidden} units",
                of="draw",
            ),
        )

    base = sj.Experiment(
        dataset=Digits(permuted=True),
        train=train,
        heldout=0.2,
        sampler=InOrder(num_steps=1),
        optimizer=Adam(learning_rate=0.001, clip_norm=1.0, schedule="cosine"),
        metrics=("last_accuracy",),
        epochs=epochs,
        evaluate_every=epochs,
    )
    for layers, name, strategy in ((1, "rtrl", RTRL()), (2, "layerwise", Layerwise())):
        experiment = replace(base, model=LRU(hidden=hidden, layers=layers, residual=True))
        gradients = {name: strategy, "one step": Truncated(steps=1)}
        runs = sj.sweep(experiment, {"gradient": gradients, "seed": range(seeds)})
        for gradient, group in runs.variants.items():
            accuracies = [run.metric("heldout_last_accuracy")[-1] for run in group]
            what = f"accuracy on held-out digits, {gradient}, layers {layers}"
            report.row(what, accuracies, between(0.8, 0.9))
    return report


if __name__ == "__main__":
    sj.script(main)

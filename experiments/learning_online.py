"""What does a stack of layers lose when it learns at every step?   python experiments/learning_online.py --seeds 3

The exact influence of all parameters on the state of one layer of `lru` is cheap to carry from step to step (`rtrl`).
With several layers, `layerwise` carries the influence of each layer on its own state, and loses that on the states
above it which begins before the window. The figures show the error of a gradient relative to that of the whole history,
by the length of the windows, where the target is the input of ten steps ago. Longer windows help `layerwise` and the
gradient of the window alone. `snap` carries an approximation for all layers, and does not depend on the windows. The
second task is to classify digits, whose 64 pixels are read in a random order, with an update after each of them. There,
the strategies differ by no more than their seeds, as in linear_recurrence.py, where an `lru` needs no gradient through
time.

The influence that is carried belongs to the parameters before the last updates. The last figure shows what this costs
in a stream that learns: the error of the gradient of an output by `rtrl`, relative to that of the whole history, which
is replayed at the parameters of the step, by the learning rate of `adam`. Beside it stands the error of the gradient of
one step, at its own parameters.
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


@jax.jit(static_argnums=(0, 1, 2, 4))
def errors_while_learning(strategy: sj.Gradient, model: sj.Model, rate: float, seed, num_steps: int):
    """The median error of the gradient of the output, in a stream in which each step is followed by an update.

    It is relative to the gradient of this output through all steps before it, which are replayed at the parameters of
    the step. Ten steps of the second half of the stream are compared. The gradient of the loss is that of the output
    times a number, which vanishes where the task is learned.
    """
    spec = sj.Spec(sj.Values(1))
    problem = model.problem(spec)
    learner = sj.Learner(problem, strategy, Adam(learning_rate=rate).build(num_steps))
    key_numbers, key_init = jax.random.split(jax.random.key(seed))
    numbers = jax.random.normal(key_numbers, (num_steps + LAG, 1))
    xs, ys = numbers[LAG:], numbers[:-LAG]

    def step(state, inputs):
        x, y = inputs
        output = learner.output(state, x)
        grads, after = learner.gradients(state, x, cotangents=jnp.ones(1))
        of_loss = jax.tree.map(lambda g: g * jax.grad(spec.targets.loss)(output, y)[0], grads)
        return learner.apply(after, of_loss), (state.params, grads)

    def replayed(params, t):
        """The output of step t after all steps before it."""
        return problem.outputs(params, problem.init_rows(params, 1), xs[:, None])[1][t, 0, 0]

    t = jnp.linspace(num_steps // 2, num_steps - 1, 10).astype(int)
    params, grads = jax.tree.map(lambda a: a[t], jax.lax.scan(step, learner.init(key_init), (xs, ys))[1])
    exact = jax.vmap(jax.grad(replayed))(params, t)
    norm = jax.vmap(lambda tree: jnp.linalg.norm(ravel_pytree(tree)[0]))
    return jnp.median(norm(jax.tree.map(jnp.subtract, grads, exact)) / norm(exact))


def show_windows(report: sj.Report, draws: int, hidden: int, num_steps: int, windows: tuple[int, ...]) -> None:
    """The errors of stacks of layers by the length of the windows."""
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


def show_rates(report: sj.Report, draws: int, hidden: int, rates: tuple[float, ...], updates: int) -> None:
    """The errors while learning, by the learning rate."""
    model = LRU(hidden=hidden, r_min=0.9, r_max=0.99)
    while_learning = {
        name: np.array(
            [[errors_while_learning(strategy, model, rate, seed, updates) for rate in rates] for seed in range(draws)]
        )
        for name, strategy in {"rtrl": RTRL(), "one step": Truncated(steps=1)}.items()
    }
    for name, values in while_learning.items():
        for rate, error in zip(rates, values.T, strict=True):
            report.row(f"error while learning, {name}, learning rate {rate:g}", error)
    report.figure(
        "while_learning",
        sj.plot.averages(
            {name: (rates, values) for name, values in while_learning.items()},
            x_label="learning rate of adam",
            y_label="relative error of the gradient",
            x_scale="log",
            y_scale="log",
            title=f"lru of {hidden} units, an update at every step",
            of="draw",
        ),
    )


def show_digits(report: sj.Report, train: int | float, seeds: int, hidden: int, epochs: int) -> None:
    """The accuracies of classifiers that are updated after each pixel."""
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
            report.row(what, accuracies, low=0.8, high=0.9)


def main(
    train: int | float = 0.8,
    seeds: int = 3,
    draws: int = 10,
    hidden: int = 16,
    epochs: int = 8,
    num_steps: int = 400,
    windows: tuple[int, ...] = (1, 10, 100),
    rates: tuple[float, ...] = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    updates: int = 2000,
) -> sj.Report:
    report = sj.Report(__file__)
    show_windows(report, draws, hidden, num_steps, windows)
    show_rates(report, draws, hidden, rates, updates)
    show_digits(report, train, seeds, hidden, epochs)
    return report


if __name__ == "__main__":
    sj.script(main)

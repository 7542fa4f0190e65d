"""Learning at every step on three chaotic series, beside the figures that the authors of sketched-rtrl published.

    python benchmarks/targets.py
    python benchmarks/targets.py --series henon --strategies snap immediate --seeds 3

The protocol is theirs (its Table 6): the next value of x is predicted from x, which has mean 0 and variance 1 over each
series, by a tanh RNN of 64 units with weights from U(±1/8); 8 rows, each a series of its own; Adam with a rate of .001
and an update at every step, 15,000 steps from index 64 of 20,065. The state, and what a strategy carries, begin anew
every 200 steps. `tbptt-25` is the gradient of windows of 25 steps, with one update at the end of each. The figure of a
run is the mean squared error over 200 steps before each of the last five multiples of 500. A table has the mean and the
population standard deviation over the seeds, the median, the range, the same of the released runs, and the p value of
the test of Mann and Whitney, whether the errors here and there are from one distribution. A seed changes the initial
weights, and the start of the Lorenz and the Mackey-Glass series; the Hénon series is always the same.

Two rows learn nothing: `last value` predicts the value that it has just read, and `quadratic` is the best polynomial of
degree two in this value, over the whole series. What is not below them has not learned to remember.

The cosine of a strategy is that of the angle between its gradient and the exact one, over the parameters of the
recurrent layer, at each step of a run of exact RTRL: the mean over all steps of the first seed. The published cosines
are those along runs of the strategies themselves, over 200 steps before each of the last five multiples of 500, and of
gradients δ_t M_t, with δ_t = ∂l_t/∂s_t. Here the last J on the way to a loss is whole, which δ_t M_t leaves out. On
Hénon the gradient of one step reaches the error of the exact one, so that this series does not tell them apart.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from machine import cores, cpu

import seqjax as sj
from seqjax.datasets import Henon, Lorenz
from seqjax.gradients import KFRTRL, OK, RFLO, RTRL, SKRTRL, UORO, Batch, Full, SnAp, Truncated, init_memory
from seqjax.models import RNN

LENGTH, FIRST, NUM_STEPS, NUM_ROWS, RESET_EVERY = 20_065, 64, 15_000, 8, 200
STRATEGIES = {
    "rtrl": RTRL(),
    "sk-rtrl-16": SKRTRL(rank=16),
    "sk-rtrl-4": SKRTRL(rank=4),
    "snap": SnAp(),
    "immediate": Truncated(steps=1),
    "rflo": RFLO(),
    "kf-rtrl": KFRTRL(),
    "ok": OK(rank=1),
    "uoro": UORO(),
    "tbptt-25": Full(),
}
WINDOWS = {"tbptt-25": 25}
"""The steps of an update, where it is not one."""
SERIES = ("henon", "lorenz", "mackey-glass")
HEAD = (
    "| strategy | error | median | range | published | median | range | p, Mann-Whitney | seconds a seed |\n"
    + "|---" * 9
    + "|"
)
PUBLISHED_COSINES = {
    "henon": {
        "sk-rtrl-16": ".972",
        "sk-rtrl-4": ".969",
        "snap": ".763",
        "rflo": ".311",
        "kf-rtrl": ".626",
        "uoro": ".052",
    },
    "lorenz": {
        "sk-rtrl-16": ".918",
        "sk-rtrl-4": ".912",
        "snap": ".353",
        "rflo": ".208",
        "kf-rtrl": ".478",
        "uoro": ".053",
    },
}
"""Those of each series, from the released runs; their mean over these and a third series is what is printed there."""


def published():
    """(series, strategy) -> the errors of the released runs, one for each seed."""
    with Path(__file__).with_name("targets_published.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for each in rows:
        found.setdefault((each["series"], each["strategy"]), []).append(float(each["error"]))
    return found


def main() -> None:
    """Prints a table for each series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES)
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--exact-seeds", type=int, default=3, help="the seeds of rtrl, a run of which takes minutes")
    parser.add_argument("--no-cosines", dest="cosines", action="store_false")
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · float32")
    for series in args.series:
        print(f"\n{series}\n\n{HEAD}")
        for name, predict in (("last value", last_value), ("quadratic", quadratic)):
            print(row(series, name, [error_of(predict(*samples(series, seed))) for seed in range(args.seeds)]))
        for name in args.strategies:
            errors, seconds = trained(series, name, args.exact_seeds if name == "rtrl" else args.seeds)
            print(row(series, name, errors, f"{statistics.median(seconds):.1f}"), flush=True)
        others = {name: STRATEGIES[name] for name in args.strategies if name not in ("rtrl", *WINDOWS)}
        if args.cosines and others and series in PUBLISHED_COSINES:
            run = compile_run(RTRL(), tuple(others.values()))
            _, cosines = run(jax.random.key(0), *samples(series, 0))
            print("\n| strategy | cosine | published |\n" + "|---" * 3 + "|")
            for name, cosine in zip(others, np.asarray(cosines).mean(0), strict=True):
                print(f"| {name} | {cosine:.3f} | {PUBLISHED_COSINES[series].get(name, '–')} |", flush=True)


def row(series, name, errors, seconds="–"):
    """A row of the table of a series."""
    there = published().get((series, name))
    cells = [name, *summary(errors), *(summary(there) if there else ("–", "–", "–"))]
    p = "–" if there is None else f"{scipy.stats.mannwhitneyu(errors, there).pvalue:.2g}"
    return f"| {' | '.join([*cells, p, seconds])} |"


def summary(errors):
    """Mean and standard deviation, median, and range, as texts."""
    shown = f"{np.mean(errors):.4f} ± {np.std(errors):.4f}", f"{np.median(errors):.4f}"
    return *shown, f"{min(errors):.4f} to {max(errors):.4f}"


def trained(series, name, seeds):
    """The errors of the runs, and their seconds."""
    run = compile_run(STRATEGIES[name], window=WINDOWS.get(name, 1))
    errors, seconds = [], []
    for seed in range(seeds):
        xs, ys = samples(series, seed)
        begin = time.perf_counter()
        losses = np.asarray(run(jax.random.key(seed), xs, ys)[0])
        seconds.append(time.perf_counter() - begin)
        errors.append(error_of(losses))
    return errors, seconds


def last_value(xs, ys):
    """The loss of each step, if the next value is predicted to be the last one."""
    return np.square(ys - xs).mean((1, 2))


def quadratic(xs, ys):
    """The loss of each step of the polynomial of degree two that is best for the row."""
    losses = []
    for x, y in zip(xs[:, :, 0].T, ys[:, :, 0].T, strict=True):
        losses.append(np.square(y - np.polyval(np.polyfit(x, y, 2), x)))
    return np.mean(losses, 0)


def error_of(losses):
    """The figure of a run, from the losses of its updates."""
    losses = np.asarray(losses).repeat(NUM_STEPS // len(losses))
    records = [losses[end - 200 : end].mean() for end in range(500, NUM_STEPS + 1, 500)]
    return float(np.mean(records[-5:]))


def compile_run(gradient, others=(), window=1):
    """(key, xs, ys) -> the loss of each update, and the cosines of other strategies, [updates, others].

    There is one update for each window of so many steps. The other strategies see the same parameters and states, and
    carry their own memory.
    """
    problem = RNN(hidden=64, initializer="uniform").problem(sj.Spec(sj.Values(1), sj.Values(1)))
    strategies, adam = (gradient, *others), optax.adam(1e-3)
    rows = jnp.arange(NUM_ROWS, dtype=jnp.int32)

    @jax.jit
    def run(key, xs, ys):
        params = problem.init(key)
        state = problem.init_rows(params, NUM_ROWS)
        memories = [init_memory(strategy, problem, params, state, NUM_ROWS) for strategy in strategies]

        def step(carry, inputs):
            params, opt_state, state, memories = carry
            t, x, y = inputs
            reset = jnp.broadcast_to(t * window % RESET_EVERY == 0, NUM_ROWS)
            weights = jnp.full((window, NUM_ROWS), 1 / (window * NUM_ROWS))
            batch = Batch((x, y), weights, reset, rows)
            keys = jax.random.split(jax.random.fold_in(key, t), len(strategies))
            estimates = [
                strategy(problem, params, state, memory, batch, key)
                for strategy, memory, key in zip(strategies, memories, keys, strict=True)
            ]
            first = estimates[0]
            updates, opt_state = adam.update(first.grads, opt_state, params)
            after = (optax.apply_updates(params, updates), opt_state, first.state, [e.memory for e in estimates])
            cosines = [cosine(first.grads["layer_0"], other.grads["layer_0"]) for other in estimates[1:]]
            return after, (first.loss, cosines)

        start = (params, adam.init(params), state, memories)
        windows = (jnp.arange(NUM_STEPS // window), *(a.reshape(-1, window, NUM_ROWS, 1) for a in (xs, ys)))
        _, (losses, cosines) = jax.lax.scan(step, start, windows)
        return losses, jnp.stack(cosines, 1) if others else None

    xs, ys = samples("henon", 0)
    return run.lower(jax.random.key(0), xs, ys).compile()


def cosine(one, two):
    """The cosine of the angle between two trees."""
    dot = optax.tree.vdot(one, two)
    return dot / jnp.maximum(optax.tree.norm(one) * optax.tree.norm(two), 1e-30)


def samples(series, seed):
    """The inputs and targets of all steps, float32[steps, rows, 1]; the Hénon series is the same for all seeds."""
    size = {"num_steps": LENGTH, "num_series": NUM_ROWS}
    if series == "mackey-glass":
        values = mackey_glass(seed)
    else:
        dataset = {"henon": Henon(**size), "lorenz": Lorenz(**size, seed=seed)}[series]
        values = dataset.load().values.reshape(NUM_ROWS, LENGTH).T
    values = (values - values.mean(0)) / values.std(0)
    used = values[FIRST : FIRST + NUM_STEPS + 1, :, None].astype(np.float32)
    return used[:-1], used[1:]


def mackey_glass(seed):
    """The series of the published code, float64[steps, rows]: steps of 1, and a delay that is one step shorter than 17.

    x_{t+1} = x_t + .2 x_{t-16} / (1 + x_{t-16}^10) - .1 x_t, after 18 values from U(1.2, 1.4). The dataset
    `mackey-glass` solves the equation itself, with a delay of 17 and smaller steps.
    """
    x = list(np.random.default_rng(seed).uniform(1.2, 1.4, (18, NUM_ROWS)))
    for _ in range(LENGTH):
        x.append(x[-1] + 0.2 * x[-17] / (1 + x[-17] ** 10) - 0.1 * x[-1])
    return np.stack(x[18:])


if __name__ == "__main__":
    main()

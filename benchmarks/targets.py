"""Learning at every step on two chaotic series, beside the figures that the authors of sketched-rtrl published.

    python benchmarks/targets.py
    python benchmarks/targets.py --series henon --strategies snap immediate --seeds 3

The protocol is theirs (its Table 6): the next value of x is predicted from x, which has mean 0 and variance 1 over the
series, by a tanh RNN of 64 units with weights from U(±1/8); 8 rows, each a series of its own; Adam with a rate of .001
and an update at every step, 15,000 steps from index 64 of 20,065. The state, and what a strategy carries, begin anew
every 200 steps. `tbptt-25` is the gradient of windows of 25 steps, with one update at the end of each. The figure of a
run is the mean squared error over 200 steps before each of the last five multiples of 500. A table has the mean and the
population standard deviation over the seeds, the median, the range, and the seconds of a run without compiling. A seed
changes the initial weights, and the start of the Lorenz series; the Hénon series is always the same.

The cosine of a strategy is that of the angle between its gradient and the exact one, over the parameters of the
recurrent layer, at each step of a run of exact RTRL: the mean over all steps of the first seed. The published cosines
are those along runs of the strategies themselves, over 200 steps before each of the last five multiples of 500, and of
gradients δ_t M_t, with δ_t = ∂l_t/∂s_t. Here the last J on the way to a loss is whole, which δ_t M_t leaves out. On
Hénon the gradient of one step reaches the error of the exact one, so that this series does not tell them apart.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
PUBLISHED = {
    "henon": {
        "rtrl": ".0052 ± .0010",
        "sk-rtrl-16": ".0064 ± .0007",
        "sk-rtrl-4": ".0059 ± .0007",
        "snap": ".0052 ± .0012",
        "rflo": ".0704 ± .0163",
        "kf-rtrl": ".0384 ± .0709",
        "uoro": ".6583 ± .2966",
        "tbptt-25": ".0311 ± .0030",
    },
    "lorenz": {
        "rtrl": ".0051 ± .0040",
        "sk-rtrl-16": ".0128 ± .0296",
        "sk-rtrl-4": ".0038 ± .0021",
        "snap": ".0024 ± .0008",
        "rflo": ".0442 ± .0124",
        "kf-rtrl": ".0126 ± .0079",
        "uoro": ".0425 ± .0431",
        "tbptt-25": ".0054 ± .0007",
    },
}
HEAD = "| strategy | error | median | range | published | median | seconds a seed |\n" + "|---" * 7 + "|"
PUBLISHED_MEDIANS = {
    "henon": {
        "rtrl": ".0051",
        "sk-rtrl-16": ".0065",
        "sk-rtrl-4": ".0058",
        "snap": ".0047",
        "rflo": ".0689",
        "kf-rtrl": ".0120",
        "uoro": ".8052",
        "tbptt-25": ".0326",
    },
    "lorenz": {
        "rtrl": ".0027",
        "sk-rtrl-16": ".0029",
        "sk-rtrl-4": ".0033",
        "snap": ".0020",
        "rflo": ".0413",
        "kf-rtrl": ".0125",
        "uoro": ".0253",
        "tbptt-25": ".0053",
    },
}
"""Medians over the seeds, from the released runs. The mean of ten seeds can be that of one seed with a large error."""
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


def main() -> None:
    """Prints a table for each series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--no-cosines", dest="cosines", action="store_false")
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · float32")
    for series in args.series:
        print(f"\n{series}\n\n{HEAD}")
        for name in args.strategies:
            print(row(series, name, args.seeds), flush=True)
        others = {name: STRATEGIES[name] for name in args.strategies if name not in ("rtrl", *WINDOWS)}
        if args.cosines and others:
            run = compile_run(RTRL(), tuple(others.values()))
            _, cosines = run(jax.random.key(0), *samples(series, 0))
            print("\n| strategy | cosine | published |\n" + "|---" * 3 + "|")
            for name, cosine in zip(others, np.asarray(cosines).mean(0), strict=True):
                print(f"| {name} | {cosine:.3f} | {PUBLISHED_COSINES[series].get(name, '–')} |", flush=True)


def row(series, name, seeds):
    """A row of the table of a series."""
    run = compile_run(STRATEGIES[name], window=WINDOWS.get(name, 1))
    errors, seconds = [], []
    for seed in range(seeds):
        xs, ys = samples(series, seed)
        begin = time.perf_counter()
        losses = np.asarray(run(jax.random.key(seed), xs, ys)[0])
        seconds.append(time.perf_counter() - begin)
        errors.append(error_of(losses))
    cells = [
        name,
        f"{np.mean(errors):.4f} ± {np.std(errors):.4f}",
        f"{np.median(errors):.4f}",
        f"{min(errors):.4f} to {max(errors):.4f}",
        PUBLISHED[series].get(name, "–"),
        PUBLISHED_MEDIANS[series].get(name, "–"),
        f"{statistics.median(seconds):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


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
    dataset = {"henon": Henon(**size), "lorenz": Lorenz(**size, seed=seed)}[series]
    values = dataset.load().values.reshape(NUM_ROWS, LENGTH).T
    used = values[FIRST : FIRST + NUM_STEPS + 1, :, None].astype(np.float32)
    return used[:-1], used[1:]


if __name__ == "__main__":
    main()

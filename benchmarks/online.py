"""The price of exact real-time recurrent learning, of its approximations, and of an update after every step.

    python benchmarks/online.py
    python benchmarks/online.py --tables price --hidden 64
    python benchmarks/online.py --tables sparse --turns 3

Tokens with a vocabulary of 28, float32. The first table has one call of `full` and of `rtrl` on a window of 256 steps
of 8 rows, with what `rtrl` carries: milliseconds, medians over turns in which the two take turns; the megabytes that
the call needs besides its arguments and results, according to the compiler; and the megabytes that are carried. "step"
is the same model as a step, without a fused unroll. The second table has updates per second with one row and Adam: in
one compiled scan over a stream, and in a loop of Python with one sample for each call.

The third table has microseconds per step, for cells whose W_hh has a tenth of its entries: per step of 8 rows in
windows of 256 steps, and of a call with one step of one row, as in a loop that learns at every step; and the megabytes
that are carried for one row. All strategies take turns. "dense" is `snap(n=2)` of the same model as a step, which
keeps the whole matrix and finds its zeros at each step. Its windows have 4 steps, and those of `snap(n=3)` 32: each of
their steps takes equally long.

The fourth table has the same columns for approximations of `rtrl` in a dense RNN of 64 units, each with its ratio to
`full`: the median of the ratios of a turn.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from machine import cores, cpu

import seqjax
from seqjax.gradients import (
    DNI,
    KFRTRL,
    OK,
    RFLO,
    RTRL,
    SKRTRL,
    UORO,
    Batch,
    EProp,
    Full,
    KeRNL,
    SnAp,
    Truncated,
    init_memory,
)

VOCABULARY, NUM_STEPS, NUM_ROWS = 28, 256, 8
SPEC = seqjax.Spec(seqjax.Tokens(VOCABULARY))
PRICE = {
    64: ("min-gru", "ind-rnn", "lru", "min-lstm", "rtu", "ssm", "rnn", "rnn, step", "gru", "lstm"),
    128: ("rnn", "rnn, step", "gru"),
    256: ("min-gru", "ind-rnn", "lru", "min-lstm", "rtu"),
}
"""Number of units -> the models of the first table."""
SPARSE = {
    "full": (Full(), 256),
    "snap(n=1)": (SnAp(), 256),
    "snap(n=2)": (SnAp(n=2), 256),
    "snap(n=2), dense": (SnAp(n=2), 4),
    "snap(n=3)": (SnAp(n=3), 32),
    "rtrl": (RTRL(), 256),
}
"""The strategies of the third table, and the steps of their windows."""
ESTIMATORS = {
    "full": Full(),
    "dni": DNI(),
    "e-prop": EProp(),
    "snap": SnAp(),
    "kernl": KeRNL(),
    "uoro": UORO(),
    "rtrl": RTRL(),
    "kf-rtrl": KFRTRL(),
    "ok(rank=1)": OK(rank=1),
    "sk-rtrl(rank=4)": SKRTRL(rank=4),
    "sk-rtrl(rank=16)": SKRTRL(rank=16),
}
"""The strategies of the fourth table."""
TABLES = ["price", "updates", "sparse", "estimators"]
ONLINE = {"truncated(1)": Truncated(steps=1), "rflo": RFLO(), "snap": SnAp(), "rtrl": RTRL()}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--hidden", nargs="+", type=int, default=[64, 128, 256], help="units in the first table")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · float32")
    if "price" in args.tables:
        print(
            "\n| model | units | full, ms | rtrl, ms | ratio | full, MB | rtrl, MB | carried, MB |\n" + "|---" * 8 + "|"
        )
        for hidden in args.hidden:
            for name in PRICE[hidden]:
                print(price(name, hidden, args.turns), flush=True)
    if "updates" in args.tables:
        print("\n| model | units | strategy | updates/s in one scan | updates/s one a call |\n" + "|---" * 5 + "|")
        for name in ("ind-rnn", "rnn"):
            for hidden in (32, 128):
                for label, strategy in ONLINE.items():
                    print(f"| {name} | {hidden} | {label} | {updates(name, hidden, strategy)} |", flush=True)
    if "sparse" in args.tables:
        print("\n| model | units | strategy | window, µs a step | one step, µs | carried, MB |\n" + "|---" * 6 + "|")
        for name, hidden in (("rnn", 64), ("rnn", 128), ("gru", 64)):
            for label, times, carried in step_times(name, hidden, SPARSE, args.turns, density=0.1):
                window, one = (f"{1e6 * statistics.median(each):,.0f}" for each in times)
                print(f"| {name} | {hidden} | {label} | {window} | {one} | {carried:.2f} |", flush=True)
    if "estimators" in args.tables:
        print("\n| strategy | window, µs a step | ratio | one step, µs | ratio | carried, MB |\n" + "|---" * 6 + "|")
        found = step_times("rnn", 64, {label: (each, NUM_STEPS) for label, each in ESTIMATORS.items()}, args.turns)
        for label, times, carried in found:
            cells = [
                f"{1e6 * statistics.median(a):,.0f} | {ratio(a, b):.3g}"
                for a, b in zip(times, found[0][1], strict=True)
            ]
            print(f"| {label} | {' | '.join(cells)} | {carried:.2f} |", flush=True)


def price(name, hidden, turns):
    """A row of the first table."""
    name, _, kind = name.partition(", ")
    problem = seqjax.create("model", name, hidden=hidden).problem(SPEC)
    params = problem.init(jax.random.key(0))
    state = problem.init_rows(params, NUM_ROWS)
    if kind == "step":
        problem = seqjax.Problem(problem.step, problem.init_state)
    batch = batch_of(NUM_STEPS, NUM_ROWS)
    calls, sizes, carried = {}, {}, 0.0
    for strategy in (Full(), RTRL()):
        memory = init_memory(strategy, problem, params, state, NUM_ROWS)
        call = jax.jit(lambda *args, strategy=strategy: strategy(problem, *args)[:4])
        compiled = call.lower(params, state, memory, batch).compile()
        calls[strategy] = lambda compiled=compiled, memory=memory: compiled(params, state, memory, batch)
        sizes[strategy] = compiled.memory_analysis().temp_size_in_bytes / 1e6
        carried = sum(a.nbytes for a in jax.tree.leaves(memory)) / 1e6
    full, rtrl = (1e3 * statistics.median(each) for each in in_turns(calls, turns).values())
    full_mb, rtrl_mb = sizes.values()
    label = f"{name}, step" if kind else name
    return (
        f"| {label} | {hidden} | {full:.2f} | {rtrl:.1f} | {rtrl / full:.1f} | {full_mb:.1f} | {rtrl_mb:.1f} | "
        f"{carried:.1f} |"
    )


def step_times(name, hidden, strategies, turns, **options):
    """For each strategy its label, the seconds of a step in a window and of one of one row by turn, the MB of a row.

    Args:
        name: of a model.
        hidden: its units.
        strategies: label -> (strategy, the steps of its windows).
        turns: the number of turns.
        options: of the model.
    """
    whole = seqjax.create("model", name, hidden=hidden, **options).problem(SPEC)
    as_step = seqjax.Problem(whole.step, whole.init_state)
    params = whole.init(jax.random.key(0))
    calls, carried = {}, {}
    for label, (strategy, num_steps) in strategies.items():
        problem = as_step if "dense" in label else whole
        for steps, rows in ((num_steps, NUM_ROWS), (1, 1)):
            state = problem.init_rows(params, rows)
            memory = init_memory(strategy, problem, params, state, rows)
            args = params, state, memory, batch_of(steps, rows), jax.random.key(1)
            call = jax.jit(lambda *args, strategy=strategy, problem=problem: strategy(problem, *args)[:4])
            calls[label, steps] = functools.partial(call.lower(*args).compile(), *args)
        carried[label] = sum(a.nbytes for a in jax.tree.leaves(memory)) / 1e6
    times = in_turns(calls, turns)
    return [
        (label, ([each / steps for each in times[label, steps]], times[label, 1]), carried[label])
        for label, (_, steps) in strategies.items()
    ]


def batch_of(num_steps, num_rows):
    """A window of random tokens."""
    ids = jax.random.randint(jax.random.key(1), (num_steps + 1, num_rows), 0, VOCABULARY, jnp.int32)
    weights = jnp.full((num_steps, num_rows), 1 / (num_steps * num_rows))
    return Batch((ids[:-1], ids[1:]), weights, None, jnp.arange(num_rows, dtype=jnp.int32))


def in_turns(calls, turns):
    """The seconds of each call by turn; the calls take turns."""
    times = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return times


def ratio(times, others):
    """The median of the ratios of two calls in the same turn, which other work of the machine changes least."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def updates(name, hidden, strategy):
    """Updates per second in one scan, and with one sample a call."""
    learner = seqjax.Learner(seqjax.create("model", name, hidden=hidden).problem(SPEC), strategy, optax.adam(1e-3))
    ids = jax.random.randint(jax.random.key(1), (2_001,), 0, VOCABULARY, jnp.int32)
    pairs = [(ids[t], ids[t + 1]) for t in range(500)]

    @jax.jit
    def scan(state):
        return jax.lax.scan(lambda state, x: learner.update(state, *x), state, (ids[:-1], ids[1:]))[0]

    state = learner.init(jax.random.key(0))
    in_scan = len(ids[:-1]) / seconds(lambda: scan(state))

    def loop():
        new = learner.init(jax.random.key(0))
        for pair in pairs:
            new, _ = learner.update(new, *pair)
        return new

    return f"{in_scan:,.0f} | {len(pairs) / seconds(loop):,.0f}"


def seconds(call):
    """The seconds of one call: the mean over as many calls as fit into .2 seconds, after a first one."""
    jax.block_until_ready(call())
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < 0.2:
        jax.block_until_ready(call())
        count += 1
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()

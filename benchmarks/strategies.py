"""The time per step of every gradient strategy.

    python benchmarks/strategies.py
    python benchmarks/strategies.py --strategies full snap uoro --model lstm --rows 8

A character model with a vocabulary of 28 on random ids, one window, float32. One jitted call of a strategy returns
loss, gradient, state and memory. The tables show the median over several turns, divided by the steps of the window, and
in brackets its ratio to that of the first strategy. The strategies take turns, so that other work of the machine
affects all of them alike. The first table is by the number of rows, the second one by the length of the window, with
the first number of rows. RTRL, and SnAp with n > 1, hold S × P numbers for each row: leave them out, or take fewer
units, if that is too much. A strategy that refuses the problem is left out, as `directional` is, which would need a
direction for each parameter.
"""

import argparse
import functools
import statistics
import sys
import time

import jax
import jax.numpy as jnp
from machine import cores, cpu

import seqjax
from seqjax.gradients import Batch, init_memory

VOCABULARY = 28
ALL = sorted(seqjax.names("gradient"), key=lambda name: name != "full")
"""All strategies; the first one is that with which the others are compared."""


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=ALL, metavar="NAME")
    parser.add_argument("--model", default="rnn")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 1, 32])
    parser.add_argument("--steps", type=int, default=256, help="steps of the window in the first table")
    parser.add_argument(
        "--lengths", nargs="*", type=int, default=[64, 256, 1024, 4096], help="steps in the second table"
    )
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · {args.model}, {args.hidden} units\n")
    by_rows = [(args.steps, rows) for rows in args.rows]
    table(args, f"µs per step, windows of {args.steps}", [f"B = {rows}" for rows in args.rows], by_rows)
    if args.lengths:
        by_length = [(steps, args.rows[0]) for steps in args.lengths]
        table(args, f"µs per step, B = {args.rows[0]}", [f"T = {steps}" for steps in args.lengths], by_length)


def table(args, title, columns, shapes):
    """Prints a table with a row for each strategy and a column for each shape."""
    print(f"| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    cells = {}
    for steps, rows in shapes:
        times = measure(args, steps, rows)
        for name, seconds in times.items():
            cells.setdefault(name, []).append(
                f"{1e6 * seconds / steps:.1f} ({seconds / times[args.strategies[0]]:.1f}×)"
            )
    for name, texts in cells.items():
        print(f"| {name} | " + " | ".join(texts) + " |", flush=True)
    print()


def measure(args, steps, rows):
    """Returns the seconds of each strategy for one window."""
    spec = seqjax.Spec(seqjax.Tokens(VOCABULARY))
    model = seqjax.create("model", args.model, hidden=args.hidden)
    problem = seqjax.Problem.of(model, spec)
    params = model.init(jax.random.key(0), spec)
    state = jax.vmap(lambda _: model.init_state(params, spec))(jnp.arange(rows))
    ids = jax.random.randint(jax.random.key(1), (steps + 1, rows), 0, VOCABULARY, jnp.int32)
    weights = jnp.full((steps, rows), 1 / (steps * rows))
    batch = Batch((ids[:-1], ids[1:]), weights, jnp.zeros(rows, bool), jnp.arange(rows, dtype=jnp.int32))
    calls = {}
    for name in args.strategies:
        strategy = seqjax.create("gradient", name)
        try:
            memory = init_memory(strategy, problem, params, state, rows)
            call = functools.partial(
                jax.jit(functools.partial(strategy, problem)), params, state, memory, batch, jax.random.key(2)
            )
            jax.block_until_ready(call())
        except seqjax.Error as why:
            print(f"{name} is left out: {why.message.partition(chr(10))[0]}", file=sys.stderr)
        else:
            calls[name] = call
    found = {name: [] for name in calls}
    for _ in range(args.turns):
        for name, call in calls.items():
            found[name].append(seconds(call))
    return {name: statistics.median(times) for name, times in found.items()}


def seconds(call):
    """The seconds of one call: the mean over as many calls as fit into a tenth of a second."""
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < 0.1:
        jax.block_until_ready(call())
        count += 1
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()

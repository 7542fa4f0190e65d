"""Microseconds a step of every gradient strategy.

    python benchmarks/strategies.py
    python benchmarks/strategies.py --strategies full snap uoro --model lstm --rows 8

A character model of 28 symbols on random ids, one window, float32. A strategy is one jitted call that returns loss,
gradient, state and memory; the medians of several turns are printed, divided by the steps of the window. The strategies
take turns, so that what else the machine does falls on all of them. First by the number of rows, then by the length of
the window, at the first number of rows given. RTRL and SnAp above 1 hold S × P numbers a row: leave them out, or give
fewer units, where that is too much.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
from machine import cores, cpu

import seqjax
from seqjax.gradients import Batch
from seqjax.gradients.base import init_memory

SYMBOLS = 28
ALL = sorted(seqjax.names("gradient"), key=lambda name: name != "full")
"""Every strategy, the one first that the others are compared with."""


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=ALL, metavar="NAME")
    parser.add_argument("--model", default="rnn")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 1, 32])
    parser.add_argument("--steps", type=int, default=256, help="of the window in the table by rows")
    parser.add_argument("--lengths", nargs="*", type=int, default=[64, 256, 1024, 4096], help="in the table by length")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    print(f"{cpu()} · {cores()} cores · jax {jax.__version__} · {args.model}, {args.hidden} units\n")
    by_rows = [(args.steps, rows) for rows in args.rows]
    table(args, f"µs a step, windows of {args.steps}", [f"B = {rows}" for rows in args.rows], by_rows)
    if args.lengths:
        by_length = [(steps, args.rows[0]) for steps in args.lengths]
        table(args, f"µs a step, B = {args.rows[0]}", [f"T = {steps}" for steps in args.lengths], by_length)


def table(args, title, columns, shapes):
    """Prints a row a strategy and a column a shape, with the time divided by that of the first strategy."""
    print(f"| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    cells = {name: [] for name in args.strategies}
    for steps, rows in shapes:
        times = measure(args, steps, rows)
        for name, seconds in times.items():
            cells[name].append(f"{1e6 * seconds / steps:.1f} ({seconds / times[args.strategies[0]]:.1f}×)")
    for name, texts in cells.items():
        print(f"| {name} | " + " | ".join(texts) + " |", flush=True)
    print()


def measure(args, steps, rows):
    """Seconds a window of each strategy."""
    spec = seqjax.Spec(seqjax.Tokens(SYMBOLS))
    model = seqjax.create("model", args.model, hidden=args.hidden)
    problem = seqjax.Problem.of(model, spec)
    params = model.init(jax.random.key(0), spec)
    state = jax.vmap(lambda _: model.init_state(params, spec))(jnp.arange(rows))
    ids = jax.random.randint(jax.random.key(1), (steps + 1, rows), 0, SYMBOLS, jnp.int32)
    weights = jnp.full((steps, rows), 1 / (steps * rows))
    batch = Batch((ids[:-1], ids[1:]), weights, jnp.zeros(rows, bool), jnp.arange(rows, dtype=jnp.int32))
    calls = {}
    for name in args.strategies:
        strategy = seqjax.create("gradient", name)
        memory = init_memory(strategy, problem, params, state, rows)
        call = jax.jit(functools.partial(strategy, problem))
        calls[name] = functools.partial(call, params, state, memory, batch, jax.random.key(2))
        jax.block_until_ready(calls[name]())
    found = {name: [] for name in calls}
    for _ in range(args.turns):
        for name, call in calls.items():
            found[name].append(seconds(call))
    return {name: statistics.median(times) for name, times in found.items()}


def seconds(call):
    """Of one call, as a mean over as many as fit into a tenth of a second."""
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < 0.1:
        jax.block_until_ready(call())
        count += 1
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()

"""Time and bytes of `seqjax.while_loop` beside the loops of JAX and Equinox.

    python benchmarks/loops.py
    python benchmarks/loops.py --rows 8

The body is s = tanh(W s + x) with 64 units. The loop stops after a tenth of its largest number of steps; the rows of a
batch stop at different steps, the last one after a tenth. Times are medians of calls in turns. Bytes are those that the
compiler reserves. `equinox.internal.while_loop` is not documented, and is the peer of a loop with a reverse mode.
"""

import argparse
import statistics
import time

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from machine import cores, cpu

import seqjax as sj
from seqjax.gradients import Full, Implicit, Last, Truncated

UNITS = 64
STRATEGIES = (Full(), Full(levels=1), Full(levels=2), Truncated(steps=10), Last(steps=4), Implicit())


def main() -> None:
    """Prints a table for each largest number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=[100, 10_000], help="largest numbers of steps")
    parser.add_argument("--rows", type=int, default=1, help="rows of a batch, by vmap")
    parser.add_argument("--calls", type=int, default=20, help="calls of each program")
    args = parser.parse_args()
    print(f"{cpu()}, {cores()} cores, jax {jax.__version__}\n")
    print("| at most | loop | value ms | value kB | gradient ms | gradient kB |")
    print("|---|---|---|---|---|---|")
    for max_steps in args.steps:
        table(max_steps, args.rows, args.calls)


def table(max_steps, rows, calls):
    """Prints the rows of one largest number of steps."""
    keys = jax.random.split(jax.random.key(0), 2)
    W, x = 0.9 * jax.random.orthogonal(keys[0], UNITS), jax.random.normal(keys[1], (rows, UNITS))
    stops = max_steps // 10 - jnp.arange(rows) * (max_steps // 20) // rows
    programs = {}
    for name, loop in loops(max_steps).items():
        value = lambda W, loop=loop: jnp.sum(jax.vmap(run, (None, None, 0, 0))(loop, W, x, stops) ** 2)
        programs[name, "value"] = compiled(value, W)
        if loop is not jax.lax.while_loop:
            programs[name, "gradient"] = compiled(jax.grad(value), W)
    times = {key: [] for key in programs}
    for _ in range(calls):
        for key, program in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(W))
            times[key].append(time.perf_counter() - begin)
    for name in loops(max_steps):
        cells = [cells_of(programs.get(key), times.get(key)) for key in ((name, "value"), (name, "gradient"))]
        print(f"| {max_steps:,} | {name} | {' | '.join(cells)} |", flush=True)


def cells_of(program, times):
    """The median time in ms, and the temporary kB."""
    if program is None:
        return "– | –"
    return f"{1e3 * statistics.median(times):.2f} | {program.memory_analysis().temp_size_in_bytes / 1e3:,.1f}"


def run(loop, W, x, stop):
    """The state after the loop, of one row."""
    body = lambda c: (jnp.tanh(W @ c[0] + x), c[1] + 1)
    return loop(lambda c: c[1] < stop, body, (jnp.zeros(UNITS), jnp.zeros((), stop.dtype)))[0]


def loops(max_steps):
    """The loops by their names, each (cond, body, init) -> state."""
    found = {"jax.lax.while_loop": jax.lax.while_loop}
    for kind in ("checkpointed", "bounded"):
        found[f"equinox, {kind}"] = lambda *args, kind=kind: eqxi.while_loop(*args, max_steps=max_steps, kind=kind)
    for gradient in STRATEGIES:
        fields = ", ".join(f"{name}={value}" for name, value in vars(gradient).items() if value)
        name = f"{type(gradient).__name__}({'' if isinstance(gradient, Implicit) else fields})"
        found[name] = lambda *args, gradient=gradient: sj.while_loop(*args, max_steps, gradient)
    return found


def compiled(f, *args):
    """The compiled program of a function, called once."""
    program = jax.jit(f).lower(*args).compile()
    jax.block_until_ready(program(*args))
    return program


if __name__ == "__main__":
    main()
